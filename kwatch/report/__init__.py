# SPDX-License-Identifier: Apache-2.0
"""Builds snapshots from the accounts, names their stacks, and judges them."""
