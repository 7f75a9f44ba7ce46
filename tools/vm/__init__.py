# SPDX-License-Identifier: Apache-2.0
"""The kernel tests in booted guests, one per kernel of tests/kernels.txt, under emulation."""
