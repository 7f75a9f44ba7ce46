# SPDX-License-Identifier: Apache-2.0
"""A session: target processes, their probes, and the events applied to their accounts."""
