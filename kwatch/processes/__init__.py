# SPDX-License-Identifier: Apache-2.0
"""The traced processes and what is known of each."""
