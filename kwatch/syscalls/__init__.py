# SPDX-License-Identifier: Apache-2.0
"""System calls by name: their numbers per ABI, strace's classes and its set expressions."""
