# SPDX-License-Identifier: Apache-2.0
"""The kernel's side: bpf(2), perf_event_open(2), BTF, the BPF programs and their rings."""
