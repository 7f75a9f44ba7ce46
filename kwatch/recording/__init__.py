# SPDX-License-Identifier: Apache-2.0
"""Recordings: directories of Parquet files with every system call. See docs/recordings.md."""
