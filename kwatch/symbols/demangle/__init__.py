# SPDX-License-Identifier: Apache-2.0
"""Demangled names of C++ and Rust."""
