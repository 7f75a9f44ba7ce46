# SPDX-License-Identifier: Apache-2.0
"""The record command: every system call as rows of Parquet files."""
