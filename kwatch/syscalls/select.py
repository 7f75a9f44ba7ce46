# SPDX-License-Identifier: Apache-2.0
"""`-e trace=SET` in strace's grammar, as a set of names.

Unlike strace it takes no numbers and no ABI suffix (`read@64`): a name means every ABI.
"""

from __future__ import annotations

import difflib
import re

from kwatch.errors import UsageError
from kwatch.syscalls import names as table
from kwatch.syscalls import posix_regex
from kwatch.syscalls.classes import BARE, CLASSES
from kwatch.wire.events import Abi

_QUALIFIER = re.compile(r"([a-z-]+)=(.*)", re.DOTALL)


def parse_trace(expression: str) -> frozenset[str]:
    """The names that an -e expression selects, with or without its leading `trace=` or `t=`.

    Of several expressions the last one counts, as in strace; the caller passes that one.
    """
    calls = _without_qualifier(expression)
    body = calls.lstrip("!")
    chosen = _select(body)
    inverted = (len(calls) - len(body)) % 2 == 1
    return table.everything() - chosen if inverted else chosen


def numbers(names: frozenset[str], abi: Abi) -> set[int]:
    """The numbers of those names that the ABI has."""
    return set().union(*(table.numbers(abi, name) for name in names))


def _without_qualifier(expression: str) -> str:
    match = _QUALIFIER.fullmatch(expression)
    if match is None:
        return expression
    qualifier, calls = match.groups()
    if qualifier not in ("trace", "t"):
        raise UsageError(
            f"cannot understand -e {expression}: kwatch has no {qualifier}=",
            hint="-e takes trace=SET, for example -e trace=%file,openat",
        )
    return calls


def _select(body: str) -> frozenset[str]:
    if body == "none":
        return frozenset()
    tokens = [token for token in body.split(",") if token]
    if not tokens:
        raise UsageError(
            "cannot trace an empty set of system calls: -e trace= names none",
            hint="name calls or classes, as in -e trace=openat,%network",
        )
    return frozenset().union(*map(_token, tokens))


def _token(token: str) -> frozenset[str]:
    word = token.lstrip("?")
    chosen = _regex(word[1:]) if word.startswith("/") else _word(word)
    if not chosen and word == token:
        raise _unknown(word)
    return chosen


def _word(word: str) -> frozenset[str]:
    if word == "all":
        return table.everything()
    if word[:1].isdecimal() or "@" in word:
        raise UsageError(
            f"cannot trace '{word}': system calls are selected by name, on every ABI at once",
            hint="name the call as strace prints it, for example -e trace=openat",
        )
    if word.startswith("%") or word in BARE:
        return CLASSES.get(word.removeprefix("%"), frozenset())
    return frozenset({word}) & table.everything()


def _regex(pattern: str) -> frozenset[str]:
    try:
        matches = posix_regex.compiled(pattern)
    except ValueError as err:
        raise UsageError(
            f"cannot trace '/{pattern}': it is not a POSIX extended regular expression: {err}",
            hint="what follows the slash is matched anywhere in a name, for example /^open",
        ) from err
    return frozenset(filter(matches, table.all_names()))


def _unknown(word: str) -> UsageError:
    kind = "class of system calls" if word.startswith("%") else "system call"
    if word.startswith("/"):
        return UsageError(
            f"cannot trace '{word}': no system call matches", hint="-e trace=?/REGEX ignores that"
        )
    known = [f"%{name}" for name in CLASSES] + sorted(table.all_names())
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.7)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    return UsageError(
        f"cannot trace '{word}': there is no such {kind}",
        hint=f"{meant}-e trace=?{word} ignores names that kwatch does not know",
    )
