# SPDX-License-Identifier: Apache-2.0
"""A session: the target processes, their probes, and the accounts that their events feed."""
