# SPDX-License-Identifier: Apache-2.0
"""Hints for arguments that the watch command does not understand."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from shutil import which

_COUNTS = "kwatch always counts and times calls, as strace -c does; --no-heap shows only those"
_SINGLE_CALLS = "`kwatch trace` shows each call with its arguments and time"
_NO_SORT = "kwatch sorts calls by total time; --json has all numbers, for any other order"

_MIN_SIMILARITY = 0.8  # `leak` is meant to be `leaks`, `make` not `mark`

#: Flags of strace that users try, and what kwatch offers instead.
_OF_STRACE = {
    **dict.fromkeys("cCw", _COUNTS),
    **dict.fromkeys("aAnqrstTvxXyzZ", _SINGLE_CALLS),
    **dict.fromkeys("SU", _NO_SORT),
    "k": "--stacks records the call stacks of system calls",
    "P": "kwatch has no filter by path; -e trace=%file selects the calls that take one",
    "E": "set the variable with env: kwatch -- env NAME=VALUE COMMAND",
    "u": "change the user with setpriv: kwatch -- setpriv --reuid USER --init-groups COMMAND",
}


def hint(
    words: list[str], unrecognized: list[str], known: Iterable[str], commands: Sequence[str]
) -> str:
    """One line; empty if there is no hint.

    `words`: all arguments. `known`: all options. `commands`: the other commands of kwatch.
    """
    if other := _other_command(words, unrecognized, commands):
        return f"did you mean `{other}`?"
    first = unrecognized[0]
    if first.startswith("--"):
        similar = get_close_matches(first.partition("=")[0], known, 1)
        return f"did you mean {similar[0]}?" if similar else ""
    if first.startswith("-"):
        return _OF_STRACE.get(first[1:2], "")
    if first.isdecimal() and "-pid" in words:  # argparse reads it as -p id
        return "did you mean --pid?"
    if first.isdecimal():
        return f"select processes with --pid: kwatch --pid {','.join(_pids(words, unrecognized))}"
    before, command = [], unrecognized
    if words.count(first) == 1:  # otherwise it may also be an option's value
        at = words.index(first)
        before, command = words[:at], words[at:]
    return f"put a command after --: {shlex.join(['kwatch', *before, '--', *command])}"


def _other_command(words: list[str], unrecognized: list[str], commands: Sequence[str]) -> str:
    """The command line with the command of kwatch that the user may have meant; empty if none."""
    for word in unrecognized:
        similar = get_close_matches(word, commands, 1, _MIN_SIMILARITY)
        if similar and (word in commands or which(word) is None):
            others = list(words)
            others.remove(word)
            return shlex.join(["kwatch", similar[0], *others])
    return ""


def _pids(words: list[str], unrecognized: list[str]) -> list[str]:
    """In `--pid $(pidof NAME)`, only the first number is the option's value."""
    with_before = zip(["", *words], words, strict=False)
    return [w for before, w in with_before if w in unrecognized or before in ("-p", "--pid")]
