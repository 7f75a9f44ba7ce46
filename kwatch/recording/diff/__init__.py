# SPDX-License-Identifier: Apache-2.0
"""What differs between two recordings of the same program."""
