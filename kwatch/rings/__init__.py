# SPDX-License-Identifier: Apache-2.0
"""The rings that carry events from the kernel, and their merge into one stream."""
