# SPDX-License-Identifier: Apache-2.0
"""Filter expressions over system calls, decided in the kernel as far as possible.

parser.parse() makes an expression of a text. split.split() separates what the kernel decides, of
which kernel_code.kernel_code() makes C, from what is left. predicate.predicate() applies an
expression to one call, columns.select() to many. explain.explain() describes it.
"""
