# SPDX-License-Identifier: Apache-2.0
"""From addresses to names: ELF files, mappings, debug information."""
