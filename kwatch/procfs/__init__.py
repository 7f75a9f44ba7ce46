# SPDX-License-Identifier: Apache-2.0
"""What /proc tells about a process: its mappings, and the files that are mapped."""
