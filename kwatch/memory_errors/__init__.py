# SPDX-License-Identifier: Apache-2.0
"""Errors in the use of the heap: what the allocator calls of a process prove."""
