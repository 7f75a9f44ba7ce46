# SPDX-License-Identifier: Apache-2.0
"""Watches heap blocks by the site that allocates them."""
