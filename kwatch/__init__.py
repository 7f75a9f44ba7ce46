# SPDX-License-Identifier: Apache-2.0
"""kwatch: a system-wide tracer of system calls and memory allocations for Linux, on eBPF."""

__version__ = "0.1.0"
