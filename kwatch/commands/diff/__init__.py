# SPDX-License-Identifier: Apache-2.0
"""The diff command: a good and a bad run."""
