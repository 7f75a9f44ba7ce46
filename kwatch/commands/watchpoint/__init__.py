# SPDX-License-Identifier: Apache-2.0
"""`kwatch watchpoint`."""
