# SPDX-License-Identifier: Apache-2.0
"""The check command: errors in the use of the heap, when they happen."""
