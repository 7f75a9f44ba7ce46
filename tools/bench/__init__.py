# SPDX-License-Identifier: Apache-2.0
"""The benchmarks: what tracing costs, as ratios measured in one run. See docs/overhead.md."""
