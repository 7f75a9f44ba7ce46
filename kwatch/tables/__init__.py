# SPDX-License-Identifier: Apache-2.0
"""The unwind tables and mappings that the BPF programs read."""
