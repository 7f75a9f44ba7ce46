# SPDX-License-Identifier: Apache-2.0
"""Compares kwatch's text of system calls with strace's, and holds a reference of the capture."""
