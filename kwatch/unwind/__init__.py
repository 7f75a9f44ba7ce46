# SPDX-License-Identifier: Apache-2.0
"""Unwinds user stacks without frame pointers, by tables made from `.eh_frame`."""
