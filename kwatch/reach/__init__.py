# SPDX-License-Identifier: Apache-2.0
"""Finds which blocks of a live heap can still be reached, without stopping the process."""
