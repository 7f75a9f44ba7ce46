# SPDX-License-Identifier: Apache-2.0
"""A sink writes each snapshot at once and raises every error of its stream."""

from __future__ import annotations

import errno
import io

import pytest

from kwatch.model.process import ProcessFacts
from kwatch.model.snapshot import Lost, Snapshot
from kwatch.sinks import Sink
from kwatch.sinks.jsonl import JsonLines
from kwatch.sinks.table.table import Tables

SNAPSHOT = Snapshot(
    kind="snapshot",
    time="2026-01-31T12:00:05.000Z",
    elapsed_s=5.0,
    process=ProcessFacts(1, 1.0, "init", "/sbin/init"),
    heap=None,
    memory=None,
    syscalls=None,
    lost=Lost(),
    verdict=None,
)


class FullDisk(io.StringIO):
    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("sink", [Tables(FullDisk()), JsonLines(FullDisk())])
def test_errors_of_the_stream_reach_the_caller(sink: Sink) -> None:
    with pytest.raises(OSError, match="No space"):
        sink.write(SNAPSHOT)


@pytest.mark.parametrize("make", [Tables, JsonLines])
def test_the_stream_stays_open(make: type[Tables] | type[JsonLines]) -> None:
    stream = io.StringIO()
    sink = make(stream)
    sink.write(SNAPSHOT)
    sink.close()
    assert len(stream.getvalue().splitlines()) == 1
