# SPDX-License-Identifier: Apache-2.0
"""What Python and the BPF programs share: events, maps, unwind rows, allocator functions."""
