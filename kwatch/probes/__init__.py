# SPDX-License-Identifier: Apache-2.0
"""Where the heap probes go: which functions, at which instruction, in which processes."""
