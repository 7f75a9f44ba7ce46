# SPDX-License-Identifier: Apache-2.0
"""Lines for standard error: what is watched, what it costs, and what was not seen."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from kwatch.commands.watch.messages import attached_line
from kwatch.errors import KwatchError
from kwatch.kernel.breakpoints import Access
from kwatch.model.options import TraceOptions
from kwatch.targets.processes import comm_of
from kwatch.units import counted, format_ns
from kwatch.watchpoints.blocks.watch import BlockWatch, Coverage
from kwatch.watchpoints.options import WatchOptions
from kwatch.watchpoints.session import WatchSession
from kwatch.watchpoints.site import Part
from kwatch.watchpoints.trial import try_watchpoints
from kwatch.watchpoints.watched import Watched

_SLOW = 2.0  # a slowdown of copies that is worth a word
_NEXT = {
    Part.LIVE: "the next block from",
    Part.FREED: "the next freed block,",
    Part.END: "behind the next block,",
}
_PURPOSES = {
    Access.WRITE: "writes",
    Access.READ_WRITE: "reads and writes",
    Access.EXECUTE: "execution",
}


def cost_lines(access: Access) -> Iterator[str]:
    """What the watchpoint costs, before it is set. Raises KwatchError if this machine has none."""
    trial = try_watchpoints()
    if access is not Access.EXECUTE and trial.slowdown >= _SLOW:
        yield (
            "kwatch: on this processor, a watchpoint for data makes large copies slow while it is "
            f"set: 30 KB took {trial.slowdown:.1f} times as long"
        )


def watched_line(traced: TraceOptions, options: WatchOptions, session: WatchSession) -> str:
    """The line that says that the watchpoint is set, or that the next block will be watched."""
    if options.of_blocks:
        attached = attached_line(traced, session.live.tracees, session.live.launched)
        purpose = _PURPOSES[options.access]
        next_ = f"{_NEXT[options.site.part]} {options.site.text}"
        return f"{attached}; watchpoint: {next_}, for {purpose}"
    watched = session.watchpoint.current
    assert watched is not None
    name = "" if options.site.address is not None else f"{options.site.text}, "
    size = "" if watched.access is Access.EXECUTE else f"{counted(watched.length, 'byte')} "
    return (
        f"attached to {comm_of(session.pid)}[{session.pid}]; watchpoint: {name}{size}at "
        f"{watched.address:#x}, for {_PURPOSES[watched.access]}, by {session.watchpoint.who}"
    )


def block_line(watched: Watched, who: str) -> str:
    """For the first block that is watched."""
    at = watched.breakpoint
    return (
        f"kwatch: watching {counted(at.length, 'byte')} at {at.address:#x}, of a block of "
        f"{counted(watched.size, 'byte')}, by {who}"
    )


def nothing_watched(options: WatchOptions, blocks: BlockWatch | None) -> KwatchError:
    """The error at the end of a run in which the watchpoint was never set."""
    name = options.site.name
    if blocks is None:
        return KwatchError(
            "nothing was watched: no file that the program mapped has a variable or a function "
            f"named {name}",
            "list the names with `nm` or `nm -D`",
        )
    if blocks.are_too_small:
        return KwatchError(
            f"nothing was watched: no block from {name} has the bytes of {options.site.text}, "
            "aligned to their number",
            "give a smaller offset or length",
        )
    if blocks.stacks.has_any:
        ended = "was given out again" if options.site.part is Part.FREED else "ended"
        return KwatchError(
            f"nothing was watched: every block from {name} {ended} before it could be watched",
            "let the program run longer",
        )
    near = blocks.stacks.near(name)
    return KwatchError(
        f"nothing was watched: no allocation had {options.site.text} in its stack",
        f"do you mean {' or '.join(near)}?" if near else "let the program run longer",
    )


def missing_lines(session: WatchSession, ring_full: int) -> Iterator[str]:
    """`ring_full`: hits that were lost in a ring, which are reported elsewhere."""
    if missed := max(session.missed - ring_full, 0):
        yield (
            f"kwatch: {counted(missed, 'more hit')} happened, but the kernel did not run its "
            "program: it was busy with another one on that CPU"
        )
    if hits := session.hits.unlisted:
        yield f"kwatch: {counted(hits, 'hit')} in further places are not listed"


def coverage_text(coverage: Coverage, seconds: float, part: Part) -> str:
    """For how much of the time blocks were watched."""
    share = coverage.watched_ns / 1e9 / max(seconds, 1e-9)
    since = "the free" if part is Part.FREED else "the allocation"
    moved, gaps = len(coverage.gaps_ns), coverage.gaps_ns
    return (
        f"watched {counted(coverage.blocks, 'block')}, {min(share, 1):.0%} of the time; moved "
        f"{counted(moved, 'time')}, {format_ns(int(median(gaps)))} after {since} (median; "
        f"the longest {format_ns(max(gaps))})"
    )
