# SPDX-License-Identifier: Apache-2.0
"""valgrind's own answer: the class of each block of a program that waits."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator

from harness.lines import DEADLINE

#: Runs a program so that `classes` can ask. Its log is not needed: vgdb gets the answers.
VALGRIND = ("valgrind", "-q", "--log-file=/dev/null", "--vgdb=yes", "--fair-sched=try")

_RECORD = re.compile(r"blocks? (?:are|is) (definitely|indirectly|possibly|still) .*loss record")
_BLOCK = re.compile(r"==\d+== (0x[0-9A-Fa-f]+)\[(\d+)\]")
_NAMES = {
    "definitely": "definite",
    "indirectly": "indirect",
    "possibly": "possible",
    "still": "reachable",
}
_MAX_RECORDS = 100_000


def classes(pid: int) -> dict[int, str]:
    """The class of each block, by address."""
    _ask(pid, "leak_check", "summary", "heuristics", "all", "reachable", "any")
    return dict(_classes(_ask(pid, "block_list", f"1..{_MAX_RECORDS}", "unlimited").splitlines()))


def _ask(pid: int, *command: str) -> str:
    words = ["vgdb", f"--pid={pid}", *command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _classes(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """A line that names a class comes before the blocks of that class."""
    class_name = ""
    for line in lines:
        if record := _RECORD.search(line):
            class_name = _NAMES[record[1]]
        elif block := _BLOCK.match(line):
            yield int(block[1], 16), class_name
