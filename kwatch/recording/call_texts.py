# SPDX-License-Identifier: Apache-2.0
"""The lines that `kwatch show` prints of calls, from columns of a recording."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa

from kwatch.model.traced_call import Moment, TracedCall
from kwatch.recording.manifest import NONSENSE
from kwatch.recording.pieces import PieceReader
from kwatch.sinks.trace_lines import LineStyle, TraceLines
from kwatch.wire.events import Abi

_WORD = (1 << 64) - 1
_ABIS = {abi.name.lower(): int(abi) for abi in Abi}
_MOMENTS = {
    "call": Moment.RETURNED,
    "unfinished": Moment.UNFINISHED,
    "in progress": Moment.IN_PROGRESS,
}


class CallTexts:
    """Lines without clock and thread."""

    def __init__(self, strings: int) -> None:
        """`strings`: bytes of each string, strace's -s."""
        self._lines = TraceLines(io.StringIO(), LineStyle(strings=strings))
        self._pieces = PieceReader()

    def of(self, calls: pa.ChunkedArray) -> pa.Array:
        """`calls`: structures of the columns TEXT_COLUMNS."""
        columns = pa.Table.from_struct_array(calls).columns
        rows = zip(*(column.to_pylist() for column in columns), strict=True)
        return pa.array(map(self._text, rows), pa.string())

    def _text(self, row: tuple[Any, ...]) -> str | None:
        """None for what no recorder writes."""
        kind, abi, nr, name, ret, *words, entry, leave, data = row
        try:
            call = TracedCall(
                moment=_MOMENTS[kind],
                pid=0,
                tid=0,
                comm=b"",
                abi=_ABIS[abi],
                nr=nr,
                name=name,
                time_ns=0,
                duration_ns=None,
                result=0 if ret is None else ret,
                arguments=[word & _WORD for word in words],
                pieces=self._pieces.pieces(entry, leave, data, 0),
            )
            return self._lines.line(call).removesuffix("\n")
        except NONSENSE:
            return None
