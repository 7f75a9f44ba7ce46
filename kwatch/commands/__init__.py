# SPDX-License-Identifier: Apache-2.0
"""The commands, one module each: `add_arguments(parser)` and `run(arguments) -> exit status`."""
