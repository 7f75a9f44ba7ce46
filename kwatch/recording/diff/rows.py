# SPDX-License-Identifier: Apache-2.0
"""Which pairs of calls of two runs differ, apart from addresses, pids and times."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kwatch.recording.diff.normal import normal_text
from kwatch.recording.diff.run import Places, Run
from kwatch.syscalls import calls
from kwatch.wire.events import Abi
from kwatch.wire.maps import CALL_NUMBERS

_AT_ONCE = 20_000
_PIDS = frozenset({"pid", "tid"})
_CONTENTS = ("entry_pieces", "exit_pieces", "data")
_ABIS = {abi.name.lower(): int(abi) for abi in Abi}

Mask = npt.NDArray[np.bool_]


def differing(first: Run, second: Run, ours: Places, theirs: Places) -> Mask:
    """For each pair of rows, which have the same name and path."""
    found = ~_surely_equal(first, second, ours, theirs)
    places = np.flatnonzero(found)
    for start in range(0, len(places), _AT_ONCE):
        at = places[start : start + _AT_ONCE]
        left, right = normal_texts(first, ours[at]), normal_texts(second, theirs[at])
        found[at] = [one != two for one, two in zip(left, right, strict=True)]
    return found


def normal_texts(run: Run, rows: Places) -> list[str]:
    names = run.column("name").take(pa.array(rows)).to_pylist()
    return [
        normal_text(text, run.pids, name in _calls_with_pids())
        for name, text in zip(names, run.whole_texts(rows), strict=True)
    ]


def _surely_equal(first: Run, second: Run, ours: Places, theirs: Places) -> Mask:
    """Without making texts, which takes far longer."""
    ids = _table_rows(first, ours)
    equal: Mask = ids == _table_rows(second, theirs)
    is_address, gives_address = _addresses()
    for word, (left, right) in enumerate(zip(first.words, second.words, strict=True)):
        a, b = left[ours], right[theirs]
        both_point = is_address[ids, word] & ((a != 0) == (b != 0))
        equal &= (a == b) | both_point
    a, b = first.results[ours], second.results[theirs]
    equal &= (a == b) | (gives_address[ids] & (a > 0) & (b > 0))
    for name in ("kind", *_CONTENTS):
        equal &= _same(first.column(name), second.column(name), ours, theirs)
    return equal


def _same(first: pa.Array, second: pa.Array, ours: Places, theirs: Places) -> Mask:
    left, right = first.take(pa.array(ours)), second.take(pa.array(theirs))
    if pa.types.is_dictionary(left.type):
        left, right = left.cast(pa.string()), right.cast(pa.string())
    both_null = pc.and_(left.is_null(), right.is_null())
    same = pc.or_kleene(pc.fill_null(pc.equal(left, right), False), both_null)
    found: Mask = same.to_numpy(zero_copy_only=False)
    return found


def _table_rows(run: Run, rows: Places) -> Places:
    """The index of each call in the tables below."""
    abis = run.column("abi")
    known = np.array([_ABIS[text] for text in abis.dictionary.to_pylist()], np.int64)
    numbers = np.clip(run.column("nr").to_numpy()[rows], 0, CALL_NUMBERS - 1)
    found: Places = known[abis.indices.to_numpy()[rows]] * CALL_NUMBERS + numbers
    return found


@functools.cache
def _addresses() -> tuple[Mask, Mask]:
    """Which registers of each call hold addresses, and which calls return one."""
    registers = np.zeros((len(Abi) * CALL_NUMBERS, 6), bool)
    results = np.zeros(len(Abi) * CALL_NUMBERS, bool)
    for abi in Abi:
        for nr in range(CALL_NUMBERS):
            call = calls.call(abi, nr)
            if call is not None:
                row = int(abi) * CALL_NUMBERS + nr
                results[row] = call.result == "hex"
                for argument in call.arguments:
                    kind = argument.kind
                    registers[row, argument.word] = kind.is_pointer or kind.base == "addr"
    return registers, results


@functools.cache
def _calls_with_pids() -> frozenset[str]:
    found = set()
    for abi in Abi:
        for nr in range(CALL_NUMBERS):
            call = calls.call(abi, nr)
            if call is not None and (
                call.result == "pid" or any(each.kind.base in _PIDS for each in call.arguments)
            ):
                found.add(call.name)
    return frozenset(found)
