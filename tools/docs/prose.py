# SPDX-License-Identifier: Apache-2.0
"""The text of the CLI reference and the man page that is not in the parsers. `x` is literal."""

from __future__ import annotations

from kwatch.errors import ExitCode
from kwatch.syscalls.classes import BARE, CLASSES
from kwatch.wire.maps import MAX_PATTERNS

DESCRIPTION = (
    "kwatch reports the memory that running processes leak, by call stack and source line, and "
    "their system calls with counts, errors and latency. It attaches to running processes or "
    "launches a command. It does not stop, restart or modify them.",
    "kwatch writes a snapshot of each process at each interval. It writes a final report with a "
    "verdict when the process ends or kwatch does. Reports go to standard output, and all other "
    "messages to standard error.",
    "When all probes are in place, kwatch prints one line that begins with `attached` to standard "
    "error. Scripts can wait for it. The line says which allocators were found, and which "
    "functions could not be probed, with the reason.",
    "kwatch must run as root. `kwatch doctor` checks the other requirements.",
)

TARGETS = (
    "`--pid`, `--comm` and a command can be combined. Without any of them, kwatch traces the whole "
    "system: it counts the system calls of every process except kwatch itself, and traces the heap "
    "only if `--heap` is given. Tables then show only the busiest `--top` processes. Of the "
    "processes that end, they show only those with the verdict `leak`."
)

VALUES = (
    (
        "SECONDS",
        "A number of seconds, or a number followed by `us`, `ms`, `s`, `m`, `h` or `d`: `0.5`, "
        "`500ms`, `2m`. Only `--older` can be 0.",
    ),
    (
        "BYTES, SIZE",
        "A number of bytes, or a number followed by `K`, `M`, `G` or `T` for powers of 1024: "
        "`4096`, `64K`, `1.5M`. `--buffer` is rounded up to a power of two; each CPU and kind of "
        "event has a ring of that size; system calls without `--stacks` have half of it.",
    ),
    (
        "GLOB",
        "A name with `*`, `?`, `[abc]` and `[!abc]`, as in a shell; quote it. It is compared with "
        "the comm, which the kernel cuts to 15 characters, and with the base name of the "
        f"executable. You can give at most {MAX_PATTERNS}.",
    ),
    (
        "SET",
        "As in strace: names, classes (`%file`) and `/regex` (a POSIX extended regular "
        "expression), separated by commas. A leading `!` selects all other calls. A `?` before a "
        "name ignores the name if there is no such call. "
        "`all` and `none` are valid too. Unlike in strace, a call has no number and no ABI suffix, "
        "and the last of several `-e` options replaces the others.",
    ),
)

CLASS_NAMES = [f"%{name}" for name in CLASSES]
CLASSES_NOTE = (
    "The classes are those of strace. "
    f"{', '.join(f'`{name}`' for name in sorted(BARE))} also work without `%`."
)

STATUSES = {
    ExitCode.DONE: "Success, or ended by SIGINT, SIGTERM or SIGHUP.",
    ExitCode.FAILED: "kwatch could not do what was asked; the message says why and how to fix it. "
    "No process ever matched `--comm`, as with `pgrep`. With "
    "`kwatch doctor`: something that kwatch needs does not work. With `kwatch diff`: the runs "
    "differ.",
    ExitCode.USAGE: "The command line is not valid, or the SQL of `kwatch query`. With "
    "`kwatch diff`: any error.",
    ExitCode.LEAK: "`--fail-on-leak` was given and a final verdict of any process is `leak`, or "
    "`--fail-on-growth` and one is `leak` or `growing`, or `--fail-on-error` was given and "
    "`kwatch check` found an error. This "
    "replaces the status of a command. An `unsure` verdict does not change the status; kwatch "
    "prints the number of such verdicts to standard error.",
}
OTHER_STATUSES = (
    (
        "N",
        "With `-- COMMAND`, if the command has ended: its own status, or 128 + N if signal N "
        "ended it.",
    ),
    (
        "128 + N",
        "With `-- COMMAND`, if signal N ended kwatch and the command is still running. If "
        "`--count` or `--duration` ended kwatch, the status is 0.",
    ),
    (
        "128 + N",
        "Signal N ended kwatch before anything was attached. The command, if any, was not run.",
    ),
)

SIGNALS = (
    "SIGINT, SIGTERM and SIGHUP end kwatch with a final report. A launched command gets the same "
    "signal, once: kwatch does not forward what the terminal or the shell has sent to the whole "
    "process group. A signal that is sent to the group with `kill` reaches the command twice. A "
    "launched command starts with the signals ignored that kwatch was given ignored, except "
    "SIGPIPE and SIGXFSZ, which Python hides. kwatch waits until the command ends, for up to 5 "
    "seconds or until a second signal, and says so if it does not end at once. SIGKILL is safe "
    "at any time: the kernel removes the probes, and the targets keep running. With `--mark`, "
    "SIGUSR1 sets a mark; a launched command has the action for it that kwatch was given."
)

UNREAD = (
    "If kwatch cannot write the report, it prints an error, detaches and exits with status 1. If "
    "the reader of a pipe has exited, as `head` does, kwatch detaches and exits with status 0 and "
    "no message. With `--fail-on-leak` or `--fail-on-growth`, it continues to trace for the "
    "verdict.",
    "In both cases, a launched command continues untraced. kwatch forwards signals to it and waits "
    "until it ends, or until `--duration`. If there was no error, kwatch exits with the command's "
    "status.",
    "A launched command writes to the same standard output as kwatch. If it continues after "
    "`--duration` or `--count`, the reader of a pipe waits for it, not for kwatch: `kwatch "
    "--duration 6 -- ./server | tail` ends with the server. Write the report to a file instead, "
    "with `--output FILE`.",
    "If a pipe is full, kwatch waits for its reader. After a signal it waits for 2 more seconds, "
    "and after a second signal not at all; then it exits with status 1. With the path of a FIFO, "
    "it waits until the FIFO is opened for reading. Ctrl-C also ends the reader in a pipeline, "
    "and the final report is lost: kwatch says so and exits with status 1. `kwatch ... | tee -i "
    "FILE` keeps it.",
    "Standard error may be closed, full, or without a reader. If nobody reads it, kwatch waits for "
    "one second, then drops messages.",
)

ENVIRONMENT = (
    ("NO_COLOR", "If set, tables on a terminal have no colours."),
    (
        "DEBUGINFOD_URLS",
        "If set, kwatch downloads debug information that this machine lacks from these servers.",
    ),
)
