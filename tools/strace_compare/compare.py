# SPDX-License-Identifier: Apache-2.0
"""The lines of one program by strace and by kwatch's decoding."""

from __future__ import annotations

import difflib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kwatch.syscalls import capture, names
from kwatch.syscalls.decode.formatter import Formatter
from kwatch.wire.events import Abi
from strace_compare.tracee import TracedCall, calls_of

_LIMITS = capture.Limits(content=4096)
#: Signals and the end of the process are no calls.
_NO_CALL = re.compile(r"^(---|\+\+\+|\[ Process)")
_UNFINISHED = " <unfinished ...>"
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>")
_PADDING = re.compile(r"\) +(= (?:\?|-?\d|0x))")


class Comparison(NamedTuple):
    lines: int
    equal: int
    #: (kwatch's line, strace's line), either of which may be missing
    different: list[tuple[str, str]]

    @property
    def share(self) -> float:
        return self.equal / self.lines if self.lines else 0.0


def compare(command: Sequence[str], live: bool = False, options: Sequence[str] = ()) -> Comparison:
    """Run the command twice and compare. `live`: with `kwatch trace`, not with the reference.

    `options`: of both, such as -y.
    """
    theirs = traced_lines(["strace", *options], command)
    kwatch = [sys.executable, "-m", "kwatch", "trace", *options]
    ours = traced_lines(kwatch, command) if live else kwatch_lines(command)
    return aligned([normal(line) for line in ours], [normal(line) for line in theirs])


def traced_lines(tracer: Sequence[str], command: Sequence[str]) -> list[str]:
    """The calls of a command that a tracer writes to the file given with -o."""
    quiet = subprocess.DEVNULL
    with tempfile.NamedTemporaryFile() as written:
        traced = [*tracer, "-o", written.name, "--", *_fixed(command)]
        subprocess.run(traced, stdin=quiet, stdout=quiet, stderr=quiet)
        lines = Path(written.name).read_text().splitlines()
    calls = [line for line in lines if not _NO_CALL.match(line)]
    return _from_last_exec(list(_whole(calls)))


def _whole(lines: Iterable[str]) -> Iterator[str]:
    """Each call as one line; of one thread. kwatch writes two for a call that takes long."""
    begun = ""
    for line in lines:
        if line.endswith(_UNFINISHED):
            begun = line.removesuffix(_UNFINISHED)
        elif resumed := _RESUMED.match(line):
            yield begun + line[resumed.end() :]
        else:
            yield line


def recorded_lines(command: Sequence[str]) -> list[str]:
    """The calls of a command that kwatch records, as it shows them."""
    kwatch, quiet = [sys.executable, "-m", "kwatch"], subprocess.DEVNULL
    with tempfile.TemporaryDirectory() as folder:
        record = [*kwatch, "record", "--content", "32", f"{folder}/run", "--", *_fixed(command)]
        subprocess.run(record, stdin=quiet, stdout=quiet, stderr=quiet)
        shown = subprocess.run([*kwatch, "show", f"{folder}/run"], capture_output=True, text=True)
    calls = [line for line in shown.stdout.splitlines() if not _NO_CALL.match(line)]
    return _from_last_exec(calls)


def kwatch_lines(command: Sequence[str]) -> list[str]:
    formatters: dict[Abi, Formatter] = {}
    lines = []
    for call in calls_of(_fixed(command), _LIMITS):
        formatter = formatters.setdefault(call.abi, Formatter(call.abi))
        lines.append(line_of(call, formatter))
    return _from_last_exec(lines)


def line_of(call: TracedCall, formatter: Formatter) -> str:
    arguments, result = formatter.text(call.nr, call.registers, call.result, call.pieces)
    return f"{names.name(call.abi, call.nr)}({arguments}) = {result}"


def _fixed(command: Sequence[str]) -> list[str]:
    """The command without randomisation of addresses, so that both runs have the same ones."""
    found = [shutil.which(name) for name in ("setarch", command[0])]
    if None in found:
        raise SystemExit(f"strace_compare: cannot find {command[0]} or setarch: is it installed?")
    return [*filter(None, found[:1]), "-R", *filter(None, found[1:]), *command[1:]]


def _from_last_exec(lines: list[str]) -> list[str]:
    """From the exec of the program itself: setarch's calls before it are left out."""
    execs = [
        i for i, line in enumerate(lines) if line.startswith("execve(") and line.endswith(" = 0")
    ]
    return lines[execs[1] :] if len(execs) > 1 else lines


def normal(line: str) -> str:
    """Without what differs between two runs, and without strace's padding."""
    line = _PADDING.sub(r") \1", line)
    for pattern, text in _VARYING:
        line = pattern.sub(text, line)
    return line


_VARYING = [
    (re.compile(r"(?<=\[)\d+(?=(?:->\d+)?[],][^<]*>)|(?<=->)\d+(?=[],])|(?<=<pid:)\d+"), "INODE"),
    (re.compile(r"(?<=[\d\]]:)\d{4,5}(?=->|\]>)|(?<=htons\()\d{5}(?=\))"), "PORT"),
    (re.compile(r"(?<=ROUTE:)\d+"), "PID"),
    (re.compile(r"(?<=/#)\d+"), "INODE"),
    (re.compile(r"tv_(sec|nsec|usec)=\d+"), r"tv_\1=N"),
    (
        re.compile(
            r"^((?:get(?:p?pid|tid|sid|pgrp|pgid)|set_tid_address|vfork|clone3?|wait4)\(.*) = \d+$"
        ),
        r"\1 = PID",
    ),
    (re.compile(r"^(wait4|kill|tgkill|pidfd_open|sched_\w+|prlimit64)\(\d{2,}"), r"\1(PID"),
    (re.compile(r"^(execve\(.*), 0x[f7]f\w+ /\*"), r"\1, ENVIRONMENT /*"),
    (re.compile(r"(si_pid|l_pid|nl_pid)=\d+"), r"\1=PID"),
    (re.compile(r"^(shmget\(.*) = \d+$"), r"\1 = ID"),
    (re.compile(r"^shmctl\(\d+"), "shmctl(ID"),
    (re.compile(r'sa_data="[^"]*"'), "sa_data"),
    (re.compile(r"TIOCGPTN, \[\d+\]"), "TIOCGPTN, [N]"),
    (re.compile(r"/dev/pts/\d+"), "/dev/pts/N"),
    (re.compile(r"parent_tid=\[\d+\]"), "parent_tid=[PID]"),
    (re.compile(r"(uptime|freeram|bufferram|sharedram|procs)=\d+|loads=\[[^]]*\]"), "N"),
    (re.compile(r'^getrandom\("[^"]*"'), 'getrandom("RANDOM"'),
    (re.compile(r"ru_[us]time=\{[^}]*\}"), "ru_time"),
    (re.compile(r"f_b(free|avail)=\d+|f_ffree=\d+"), "N"),
    (re.compile(r"/\* \d{4}-\d\d-[^*]*\*/"), "/* date */"),
    (re.compile(r"sin6?_port=htons\(\d+\)"), "port"),
]


def aligned(ours: list[str], theirs: list[str]) -> Comparison:
    """Pairs of lines in order; where the calls differ, the nearest alignment of their names."""
    names_of = [[line.split("(", 1)[0] for line in lines] for lines in (ours, theirs)]
    different, equal = [], 0
    for start, end, other, stop in _blocks(*names_of):
        for i in range(max(end - start, stop - other)):
            one = ours[start + i] if start + i < end else ""
            two = theirs[other + i] if other + i < stop else ""
            if one == two:
                equal += 1
            else:
                different.append((one, two))
    return Comparison(max(len(ours), len(theirs)), equal, different)


def _blocks(ours: list[str], theirs: list[str]) -> list[tuple[int, int, int, int]]:
    """Ranges of ours and theirs that belong together; a search only where the names differ."""
    if ours == theirs:
        return [(0, len(ours), 0, len(theirs))]
    matcher = difflib.SequenceMatcher(None, ours, theirs)
    return [(start, end, other, stop) for _, start, end, other, stop in matcher.get_opcodes()]
