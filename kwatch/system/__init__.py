# SPDX-License-Identifier: Apache-2.0
"""Small parts of the operating system that Python's library lacks."""
