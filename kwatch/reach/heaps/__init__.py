# SPDX-License-Identifier: Apache-2.0
"""Lists the blocks of a heap from the allocator's own structures."""
