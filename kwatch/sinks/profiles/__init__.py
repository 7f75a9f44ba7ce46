# SPDX-License-Identifier: Apache-2.0
"""Profiles of the heap for other tools: files that hold every stack of every process."""
