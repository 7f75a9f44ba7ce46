# SPDX-License-Identifier: Apache-2.0
"""Demangles names of C++ and Rust."""
