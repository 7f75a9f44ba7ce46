# SPDX-License-Identifier: Apache-2.0
"""Call stacks from the records of the BPF programs."""
