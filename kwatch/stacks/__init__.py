# SPDX-License-Identifier: Apache-2.0
"""Reads call stacks from the records of the BPF programs."""
