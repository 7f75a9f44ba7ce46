# SPDX-License-Identifier: Apache-2.0
"""The query command: SQL over a recording."""
