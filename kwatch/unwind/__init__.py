# SPDX-License-Identifier: Apache-2.0
"""Unwinding user stacks without frame pointers: tables from `.eh_frame`, and their use."""
