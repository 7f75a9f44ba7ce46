# SPDX-License-Identifier: Apache-2.0
"""What to do about words that the watch command does not understand."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from difflib import get_close_matches

_COUNTS = "kwatch always counts and times calls, as strace -c does; --no-heap leaves that alone"
_NO_SINGLE_CALLS = "kwatch counts calls, and shows no single one with its arguments and its time"
_NO_SORT = "kwatch lists the calls that took most time first; --json has all figures to sort by"

#: Flags of strace that users try, and what kwatch has instead.
_OF_STRACE = {
    **dict.fromkeys("cCw", _COUNTS),
    **dict.fromkeys("aAnqrstTvxXyzZ", _NO_SINGLE_CALLS),
    **dict.fromkeys("SU", _NO_SORT),
    "k": "call stacks of system calls are --stacks",
    "P": "kwatch has no filter by path; -e trace=%file selects the calls that take one",
    "E": "set it for the command: kwatch -- env NAME=VALUE COMMAND",
    "u": "let the command change the user: kwatch -- setpriv --reuid USER --init-groups COMMAND",
}


def hint(words: list[str], unrecognized: list[str], known: Iterable[str]) -> str:
    """One line; empty if nothing is known of them.

    `words` are all that were given, `known` the options that there are.
    """
    first = unrecognized[0]
    if first.startswith("--"):
        similar = get_close_matches(first.partition("=")[0], known, 1)
        return f"did you mean {similar[0]}?" if similar else ""
    if first.startswith("-"):
        return _OF_STRACE.get(first[1:2], "")
    if first.isdecimal() and "-pid" in words:  # to argparse it is -p id
        return "did you mean --pid?"
    if first.isdecimal():
        return f"processes are named by --pid: kwatch --pid {','.join(_pids(words, unrecognized))}"
    before, command = [], unrecognized
    if words.count(first) == 1:  # else it may be an option's value, too
        at = words.index(first)
        before, command = words[:at], words[at:]
    return f"put a command after --: {shlex.join(['kwatch', *before, '--', *command])}"


def _pids(words: list[str], unrecognized: list[str]) -> list[str]:
    """Of `--pid $(pidof NAME)` only the first number is the option's value."""
    with_before = zip(["", *words], words, strict=False)
    return [w for before, w in with_before if w in unrecognized or before in ("-p", "--pid")]
