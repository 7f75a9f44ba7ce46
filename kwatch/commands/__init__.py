# SPDX-License-Identifier: Apache-2.0
"""The commands by name.

The module of each has `SUMMARY`, `add_arguments(parser)` and `run(arguments) -> exit status`; its
docstring is the description in its help.
"""

DEFAULT_COMMAND = "watch"

#: The module of each command, in the order of the help.
COMMANDS = {
    DEFAULT_COMMAND: "kwatch.commands.watch.command",
    "doctor": "kwatch.commands.doctor.command",
}
