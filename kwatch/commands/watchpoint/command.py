# SPDX-License-Identifier: Apache-2.0
"""Shows which instructions access an address, in all threads, by a hardware watchpoint.

The process is not stopped. The kernel's own accesses for system calls show, too."""

from __future__ import annotations

import argparse
from dataclasses import replace

from kwatch.commands.output_options import add_buffer_option, buffer_from
from kwatch.commands.startup import compiling
from kwatch.commands.target_options import pids_from
from kwatch.errors import UsageError
from kwatch.kernel.breakpoints import Access
from kwatch.model.options import Releases, TraceOptions
from kwatch.system import stdio
from kwatch.system.signals import Signals
from kwatch.units import parse_seconds
from kwatch.watchpoints.options import OnHit, WatchOptions
from kwatch.watchpoints.site import Part, parse_site

SUMMARY = "show which instructions access an address or a variable"

TAKES_COMMAND = True

IF_INTERRUPTED = "; nothing was watched"

USAGE = "kwatch watchpoint SITE [TARGET] [WHAT] [OUTPUT] [-- COMMAND [ARG ...]]"

EXAMPLES = """\
examples:
  kwatch watchpoint total --pid 1234              who writes the variable `total`
  kwatch watchpoint 0x55d0c0de1010:4 --pid 1234   who writes these 4 bytes
  kwatch watchpoint make_node+16 --pid 1234       who writes a block from make_node()
  kwatch watchpoint freed:make_node --pid 1234    who writes one that has been freed
  kwatch watchpoint cache+16:8 --on-hit stop -- ./server
                                                  stop the program at each write
  kwatch watchpoint flush --access x --pid 1234   who calls a function
"""

_ACCESSES = {"w": Access.WRITE, "rw": Access.READ_WRITE, "x": Access.EXECUTE}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "site",
        metavar="SITE",
        help="what to watch: an address, a variable, or the blocks that a function or a source "
        "line allocates: 0xADDRESS, NAME or FILE:LINE, then [+OFFSET][:LENGTH]; LENGTH is 1, 2, 4 "
        "or 8. freed:SITE watches these blocks when they have been freed, end:SITE the bytes "
        "behind them",
    )
    target = parser.add_argument_group("target", "one process")
    target.add_argument(
        *("-p", "--pid"), action="append", default=[], metavar="PID", help="watch a running process"
    )
    what = parser.add_argument_group("what")
    what.add_argument(
        "--access",
        choices=list(_ACCESSES),
        default="w",
        help="w: writes; rw: reads and writes; x: where the processor runs the code "
        "(default: %(default)s)",
    )
    what.add_argument(
        "--on-hit",
        default="stack",
        metavar="ACTION[,ACTION]",
        help="stack: show each new place with its stack; count: only count; dump: also show the "
        "memory around; stop: also stop the process (default: %(default)s)",
    )
    what.add_argument("--max-hits", type=int, metavar="N", help="stop after N hits")
    what.add_argument("--duration", metavar="SECONDS", help="stop after this time")
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print one JSON object per line")
    add_buffer_option(output)


def run(arguments: argparse.Namespace) -> int:
    signals = Signals()  # first, so that no signal can leave anything behind
    stdio.obey(signals)
    traced, options = _with_heap(*options_from(arguments))
    duration = arguments.duration
    duration_s = parse_seconds(duration) if duration is not None else None
    with compiling(traced) as loader:
        from kwatch.commands.watchpoint.run import WatchRun

        run_ = WatchRun(traced, options, loader, signals, arguments.json, duration_s)
    return run_.run()


def options_from(arguments: argparse.Namespace) -> tuple[TraceOptions, WatchOptions]:
    """Raises UsageError."""
    pids = pids_from(arguments.pid)
    if len(pids) + bool(arguments.command) != 1:
        raise UsageError("a watchpoint is set in one process", "give one --pid PID, or -- COMMAND")
    if arguments.max_hits is not None and arguments.max_hits < 1:
        raise UsageError(f"--max-hits {arguments.max_hits} shows nothing", "try --max-hits 10")
    traced = TraceOptions(
        pids=pids,
        command=tuple(arguments.command),
        heap=False,
        heap_stacks=False,
        syscalls=False,
        watch=True,
        buffer=buffer_from(arguments),
    )
    options = WatchOptions(
        parse_site(arguments.site),
        access=_ACCESSES[arguments.access],
        on_hit=_actions(arguments.on_hit),
        max_hits=arguments.max_hits,
    )
    return traced, options


def _with_heap(traced: TraceOptions, options: WatchOptions) -> tuple[TraceOptions, WatchOptions]:
    """For a site that allocates, the heap is traced too. Raises KwatchError."""
    from kwatch.kernel import privileges
    from kwatch.targets.launch import program_files, resolve
    from kwatch.targets.processes import require
    from kwatch.watchpoints.place import is_allocating

    for check in privileges.REQUIRED.values():
        check()
    pid = require(traced.pids[0]).pid if traced.pids else 0
    files = () if pid else program_files(resolve(traced.command[0]))
    if not is_allocating(options.site, options.access, pid, files):
        return traced, options
    heap = replace(
        traced,
        heap=True,
        heap_stacks=True,
        releases=Releases.NEVER,
        every_block=options.site.part is Part.FREED,
    )
    return heap, replace(options, of_blocks=True)


def _actions(text: str) -> frozenset[OnHit]:
    """Raises UsageError."""
    names = [each.strip() for each in text.split(",")]
    if unknown := [name for name in names if name not in {each.value for each in OnHit}]:
        raise UsageError(f"--on-hit {unknown[0]!r} is no action", f"known ones: {', '.join(OnHit)}")
    return frozenset(map(OnHit, names))
