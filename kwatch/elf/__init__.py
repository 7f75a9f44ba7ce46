# SPDX-License-Identifier: Apache-2.0
"""ELF files: headers, sections, segments, symbol tables."""
