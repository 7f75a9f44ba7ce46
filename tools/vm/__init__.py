# SPDX-License-Identifier: Apache-2.0
"""Runs kernel tests in emulated guests, one per kernel of tests/kernels.txt."""
