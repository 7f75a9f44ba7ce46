# SPDX-License-Identifier: Apache-2.0
"""Heap profiles for other tools: files with every stack of every process."""
