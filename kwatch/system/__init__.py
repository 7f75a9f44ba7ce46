# SPDX-License-Identifier: Apache-2.0
"""Helpers for the operating system and for containers that Python's library lacks."""
