# SPDX-License-Identifier: Apache-2.0
"""The commands by name.

The module of a command has `SUMMARY`, `add_arguments(parser)` and `run(arguments) -> exit status`;
its docstring is the description in the command's help. Optional are `USAGE`, `EXAMPLES` for the end
of the help, `TAKES_COMMAND = True` if `-- COMMAND` may follow, which is `arguments.command`, and
`IF_INTERRUPTED`, which follows `ended by SIGINT`.
"""

DEFAULT_COMMAND = "watch"

#: The module of each command, in the order in which the help lists them.
COMMANDS = {
    DEFAULT_COMMAND: "kwatch.commands.watch.command",
    "trace": "kwatch.commands.trace.command",
    "record": "kwatch.commands.record.command",
    "show": "kwatch.commands.show.command",
    "query": "kwatch.commands.query.command",
    "diff": "kwatch.commands.diff.command",
    "check": "kwatch.commands.check.command",
    "leaks": "kwatch.commands.leaks.command",
    "watchpoint": "kwatch.commands.watchpoint.command",
    "mark": "kwatch.commands.mark",
    "doctor": "kwatch.commands.doctor.command",
}
