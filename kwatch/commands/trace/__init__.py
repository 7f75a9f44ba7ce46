# SPDX-License-Identifier: Apache-2.0
"""The trace command: every system call as one line."""
