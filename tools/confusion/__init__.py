# SPDX-License-Identifier: Apache-2.0
"""Verdicts on services whose truth is known. See docs/semantics.md."""
