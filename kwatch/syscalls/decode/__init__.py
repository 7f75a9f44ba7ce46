# SPDX-License-Identifier: Apache-2.0
"""Captured calls as the text that strace prints."""
