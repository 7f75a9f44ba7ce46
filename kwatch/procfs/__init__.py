# SPDX-License-Identifier: Apache-2.0
"""What /proc says of a process: its mappings and its address space."""
