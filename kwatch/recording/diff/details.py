# SPDX-License-Identifier: Apache-2.0
"""What differs between two calls of the same name: results, arguments, contents."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from kwatch.recording.diff.regions import NONE, Region
from kwatch.recording.diff.rows import normal_texts
from kwatch.recording.diff.run import Run
from kwatch.recording.escapes import escaped
from kwatch.recording.pieces import PieceReader
from kwatch.sinks.argument_texts import argument_texts
from kwatch.syscalls import calls
from kwatch.wire.events import Abi

_AT_RETURN = 6  # the first piece of those that were captured at the return
_EXCERPT = 16
_MAX_TEXT = 60
_BEFORE = 20


class Detail(NamedTuple):
    what: str
    ours: str
    theirs: str


def region_details(first: Run, second: Run, region: Region) -> Iterator[Detail]:
    """Of its first call in each run, if these have the same name."""
    left = [step.ours for step in region.steps if step.ours != NONE]
    right = [step.theirs for step in region.steps if step.theirs != NONE]
    if left and right and _name(first, left[0]) == _name(second, right[0]):
        yield from details(first, second, left[0], right[0])


def _name(run: Run, row: int) -> str:
    return str(run.column("name")[row].as_py())


def details(first: Run, second: Run, ours: int, theirs: int) -> Iterator[Detail]:
    rows = first.row(ours), second.row(theirs)
    (a, x), (b, y) = (
        _divided(normal_texts(run, np.array([row]))[0])
        for run, row in ((first, ours), (second, theirs))
    )
    if x != y:
        yield Detail("result", *_cut(x, y))
    call = calls.call(Abi[rows[0]["abi"].upper()], rows[0]["nr"])
    known = call.arguments if call is not None else ()
    for number, (one, two) in enumerate(itertools.zip_longest(a, b, fillvalue="")):
        if one == two:
            continue
        name = known[number].name if number < len(known) else f"argument {number + 1}"
        contents = number < len(known) and one[:1] == two[:1] == '"'
        found = _bytes(*rows, known[number].word) if contents else None
        yield (
            Detail(name, *_cut(one, two))
            if found is None
            else Detail(f"{name}, byte {found[0]}", *found[1:])
        )


def _divided(line: str) -> tuple[list[str], str]:
    """The arguments and the result of a line."""
    head, _, result = line.rpartition(" = ")
    inside = head.partition("(")[2].rstrip().removesuffix(")")
    return argument_texts(inside), result


def _bytes(first: dict[str, Any], second: dict[str, Any], word: int) -> tuple[int, str, str] | None:
    """Where the contents of an argument begin to differ, and what follows there."""
    captured = []
    for row in (first, second):
        found = PieceReader().pieces(row["entry_pieces"], row["exit_pieces"], row["data"], 0)
        piece = found[_AT_RETURN + word]
        captured.append(piece if piece is not None else found[word])
    one, two = captured
    if one is None or two is None or one == two:
        return None
    place = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), None)
    at = place if place is not None else min(len(one), len(two))
    return at, _quoted(one[at : at + _EXCERPT]), _quoted(two[at : at + _EXCERPT])


def _quoted(data: bytes) -> str:
    return f'"{escaped(data)}"'


def _cut(one: str, two: str) -> tuple[str, str]:
    """Around the first difference."""
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, two, strict=False))
    start = max(sum(1 for _ in same) - _BEFORE, 0)
    return _excerpt(one, start), _excerpt(two, start)


def _excerpt(text: str, start: int) -> str:
    end = start + _MAX_TEXT
    return f"{'...' * (start > 0)}{text[start:end]}{'...' * (len(text) > end)}"
