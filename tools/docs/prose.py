# SPDX-License-Identifier: Apache-2.0
"""What the CLI reference and the man page say beside the parsers. `x` is literal text."""

from __future__ import annotations

from kwatch.errors import ExitCode
from kwatch.syscalls.classes import BARE, CLASSES
from kwatch.wire.maps import MAX_PATTERNS

DESCRIPTION = (
    "kwatch attaches to running processes, or launches one, and reports which memory they have "
    "allocated and not freed, by call stack, and which system calls they make, by name. The "
    "programs are not stopped, restarted or changed.",
    "A snapshot of each process is written at each interval, and a final report with a verdict "
    "when the process ends or kwatch does. Reports go to standard output, all else to standard "
    "error.",
    "When every probe is in place, one line that begins with `attached` is written to standard "
    "error; scripts can wait for it. It says which allocators were found, and which functions "
    "could not be probed, with the reason.",
    "kwatch needs root; `kwatch doctor` says what else.",
)

TARGETS = (
    "`--pid`, `--comm` and a command can be combined. Without any of them kwatch is system-wide: "
    "it counts the system calls of every process but itself, and traces no heap unless `--heap` "
    "asks for it. In tables it then shows only the busiest `--top` processes, and of those that "
    "end only those whose verdict is `leak`."
)

VALUES = (
    (
        "SECONDS",
        "A number, with `us`, `ms`, `s`, `m`, `h` or `d` behind it if it is not seconds: `0.5`, "
        "`500ms`, `2m`. Only `--older` may be 0.",
    ),
    (
        "BYTES, SIZE",
        "A number, with `K`, `M`, `G` or `T` behind it for powers of 1024: `4096`, `64K`, `1.5M`. "
        "`--buffer` is rounded up to a power of two; there is a ring of that size for each CPU "
        "and kind of event.",
    ),
    (
        "GLOB",
        "A name with `*`, `?`, `[abc]` and `[!abc]`, as in a shell; quote it. It is compared with "
        "the comm, of which the kernel keeps 15 characters, and with the base name of the "
        f"executable. At most {MAX_PATTERNS} can be given.",
    ),
    (
        "SET",
        "As in strace: names, classes (`%file`) and `/regex`, separated by commas; `!` in front "
        "takes all others; `?` in front of a name ignores it if there is no such call; `all` and "
        "`none`. Unlike strace, a call has no number and no ABI suffix, and of several `-e` the "
        "last one counts.",
    ),
)

CLASS_NAMES = [f"%{name}" for name in CLASSES]
CLASSES_NOTE = (
    "The classes are those of strace; "
    f"{', '.join(f'`{name}`' for name in sorted(BARE))} are also understood without `%`."
)

STATUSES = {
    ExitCode.DONE: "Done, or ended by SIGINT, SIGTERM or SIGHUP.",
    ExitCode.FAILED: "kwatch could not do what was asked; the message says why and what to do. "
    "With `--fail-on-leak`: no process had the name, so there was nothing to judge. From "
    "`kwatch doctor`: something that is needed does not work.",
    ExitCode.USAGE: "The command line cannot be understood.",
    ExitCode.LEAK: "`--fail-on-leak` was given and a final verdict is `leak`, of any process; "
    "this goes before the status of a command. Verdicts that are `unsure` change no status; how "
    "many there were is said on standard error.",
}
OTHER_STATUSES = (
    (
        "N",
        "With `-- COMMAND` that has ended: its own status, 128 + N if signal N ended it.",
    ),
    (
        "128 + N",
        "With `-- COMMAND` that goes on running although signal N has ended kwatch. If `--count` "
        "or `--duration` has ended it, the status is 0.",
    ),
    (
        "128 + N",
        "Ended by signal N before anything was attached; the command, if there is one, never ran.",
    ),
)

SIGNALS = (
    "SIGINT, SIGTERM and SIGHUP end kwatch with the final report. A launched command gets the "
    "same signal, and kwatch waits up to 5 seconds for it to end, or until a second signal; if it "
    "does not end at once, kwatch says so. "
    "SIGKILL is safe at any moment: the kernel removes the probes, and the targets run on."
)

UNREAD = (
    "When the report cannot be written, kwatch says so, detaches and ends with status 1. When its "
    "reader has gone, as `head` does, it detaches and ends quietly with status 0; with "
    "`--fail-on-leak` it goes on all the same, for the verdict.",
    "A launched command is seen out in both cases: it goes on untraced, kwatch passes signals on "
    "to it and waits for its end, or until `--duration`. Without an error, its status is "
    "kwatch's.",
    "Standard error may be closed, full or without a reader.",
)

ENVIRONMENT = (
    ("NO_COLOR", "If set, tables are not coloured on a terminal."),
    (
        "DEBUGINFOD_URLS",
        "If set, debug information that is not on this machine is asked of these servers.",
    ),
)
