# SPDX-License-Identifier: Apache-2.0
"""Hardware watchpoints: where they are set, in which threads, and what hits them."""
