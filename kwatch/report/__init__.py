# SPDX-License-Identifier: Apache-2.0
"""Builds snapshots from the accounts, symbolizes their stacks, and gives verdicts."""
