# SPDX-License-Identifier: Apache-2.0
"""What differs between two runs, as lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from tabulate import tabulate

from kwatch.recording.diff.compare import Comparison
from kwatch.recording.diff.details import region_details
from kwatch.recording.diff.regions import Region, Step
from kwatch.recording.diff.run import Run, Thread
from kwatch.units import counted, format_ns, printable

_MAX_ROWS = 20


def lines(first: Run, second: Run, found: Comparison) -> Iterator[str]:
    yield f"--- {printable(first.path)}: {_size(first)}"
    yield f"+++ {printable(second.path)}: {_size(second)}"
    if not found.differs:
        yield "no call differs"
    else:
        yield (
            f"{counted(found.changed, 'call differs', 'calls differ')}; {found.only_ours:,} only "
            f"in the first run, {found.only_theirs:,} only in the second"
        )
    for mark, threads in zip("-+", found.alone, strict=True):
        for thread in threads[:_MAX_ROWS]:
            yield f"{mark}thread {_named(thread)}: {counted(len(thread.rows), 'call')}"
        if len(threads) > _MAX_ROWS:
            yield f"{mark}{counted(len(threads) - _MAX_ROWS, 'more thread')}"
    for region in found.regions:
        yield ""
        yield from _region(first, second, region)
    if left := found.region_count - len(found.regions):
        yield ""
        yield f"{counted(left, 'more difference')}; --all shows them"
    yield from _tables(found)


def _size(run: Run) -> str:
    return f"{counted(len(run), 'call')} of {counted(len(run.threads), 'thread')}"


def _named(thread: Thread) -> str:
    return f"{printable(thread.comm)}[{thread.tid}]"


def _region(first: Run, second: Run, found: Region) -> Iterator[str]:
    ours, theirs = found.threads
    yield f"@@ {_named(ours)} and {_named(theirs)}, after {counted(found.number, 'call')} @@"
    for step in (*found.before, *found.steps):
        yield from _step(first, second, step)
    if found.omitted:
        yield f" ... {counted(found.omitted, 'more call', 'more calls')} ..."
    for step in found.after:
        yield from _step(first, second, step)
    for each in region_details(first, second, found):
        yield printable(f"  {each.what}: {each.ours} | {each.theirs}")


def _step(first: Run, second: Run, step: Step) -> Iterator[str]:
    marks = "  " if step.is_equal else "-+"
    if step.ours >= 0:
        yield printable(f"{marks[0]}{first.texts(np.array([step.ours]))[0]}")
    if step.theirs >= 0 and not step.is_equal:
        yield printable(f"{marks[1]}{second.texts(np.array([step.theirs]))[0]}")


def _tables(found: Comparison) -> Iterator[str]:
    if found.counts:
        yield ""
        rows = [
            [each.name, *each.calls, f"{each.calls[1] - each.calls[0]:+}", *each.errors]
            for each in found.counts[:_MAX_ROWS]
        ]
        yield from _table(("call", "calls-", "calls+", "change", "errors-", "errors+"), rows)
        yield from _rest(len(found.counts))
    if found.latencies:
        yield ""
        rows = [
            [each.name, *map(format_ns, (*each.p50, *each.p99))]
            for each in found.latencies[:_MAX_ROWS]
        ]
        yield from _table(("call", "p50-", "p50+", "p99-", "p99+"), rows)
        yield from _rest(len(found.latencies))


def _table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    text = tabulate(
        [list(headers), *([printable(str(cell)) for cell in row] for row in rows)],
        tablefmt="plain",
        disable_numparse=True,
        colalign=["left", *["right"] * (len(headers) - 1)],
    )
    yield from text.splitlines()


def _rest(count: int) -> Iterator[str]:
    if count > _MAX_ROWS:
        yield f"and {counted(count - _MAX_ROWS, 'more call', 'more calls')}"
