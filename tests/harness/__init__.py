# SPDX-License-Identifier: Apache-2.0
"""What the tests share: requirements, programs with known answers, and kwatch as a user runs it."""
