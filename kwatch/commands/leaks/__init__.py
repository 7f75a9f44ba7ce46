# SPDX-License-Identifier: Apache-2.0
"""`kwatch leaks`: the blocks that a running process has lost already."""
