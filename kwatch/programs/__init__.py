# SPDX-License-Identifier: Apache-2.0
"""The BPF programs: source, compilation, cache, loading, tracepoints."""
