# SPDX-License-Identifier: Apache-2.0
"""What a heap's history says: what grows, which functions allocate for others, who releases."""
