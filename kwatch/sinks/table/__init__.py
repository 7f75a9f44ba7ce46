# SPDX-License-Identifier: Apache-2.0
"""Snapshots as text for a terminal."""
