# SPDX-License-Identifier: Apache-2.0
"""Names of addresses, from the symbols and debug information of mapped files."""
