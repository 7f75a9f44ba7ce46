# SPDX-License-Identifier: Apache-2.0
"""Names and source lines from debug information, by libdw."""
