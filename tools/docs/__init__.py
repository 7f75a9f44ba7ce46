# SPDX-License-Identifier: Apache-2.0
"""Writes the documents that are made from the program: the CLI reference, man page and probes."""
