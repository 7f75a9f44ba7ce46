# SPDX-License-Identifier: Apache-2.0
"""`kwatch`: watch the heap and the system calls of running programs."""

from __future__ import annotations

import argparse
import os
import re
from contextlib import closing

from kwatch.errors import Refused, UsageError
from kwatch.kernel.cpus import default_ring_size
from kwatch.model.options import UNLIMITED, Listing, ProfileFiles, WatchOptions
from kwatch.programs.source import ProgramConfig
from kwatch.system.signals import Signals
from kwatch.units import parse_seconds, parse_size
from kwatch.wire.maps import MAX_PATTERNS

SUMMARY = "watch the heap and the system calls of running programs (the default command)"

USAGE = "kwatch [TARGET] [WHAT] [WHEN] [OUTPUT] [-- COMMAND [ARG ...]]"

EXAMPLES = """\
examples:
  kwatch --pid 1234                 one process, its leaks and its system calls
  kwatch --comm nginx -i 10         every process of that name, now and later
  kwatch --no-heap -e trace=%file -- ls /tmp
                                    a command, its file system calls alone
  kwatch --flamegraph heap.html -- ./program
                                    a command, and all of its heap as a page
  kwatch --fail-on-leak -- ./tests  exits with 3 if the command leaked
"""

_MIN_BUFFER, _MAX_BUFFER = 4096, 1 << 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    target = parser.add_argument_group("target", "without one: every process, system calls alone")
    _add_target(target)
    _add_what(parser.add_argument_group("what"))
    _add_listing(parser.add_argument_group("listing"))
    _add_when(parser.add_argument_group("when"))
    _add_output(parser.add_argument_group("output"))
    profiles = parser.add_argument_group(
        "profiles of the heap", "every stack of every process; written at each interval and the end"
    )
    _add_profiles(profiles)


def _add_target(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-p", "--pid", action="append", default=[], metavar="PID[,PID]", help="running processes"
    )
    group.add_argument(
        "--comm",
        action="append",
        default=[],
        metavar="GLOB",
        help="every process whose comm or executable's base name matches, now or started later",
    )
    group.add_argument(
        "-f",
        "--follow",
        action="store_true",
        help="children of the targets too, if they start after kwatch",
    )


def _add_what(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--heap",
        action=argparse.BooleanOptionalAction,
        help="trace allocations (default: with a target; system-wide it slows every process)",
    )
    group.add_argument(
        "--syscalls",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="trace system calls (default: yes)",
    )
    group.add_argument(
        "--stacks",
        action=argparse.BooleanOptionalAction,
        help="call stacks of allocations and of system calls (default: of allocations alone)",
    )
    group.add_argument(
        "-e",
        dest="expression",
        metavar="trace=SET",
        help="system calls by name, %%class, /regex and !, as in strace",
    )
    group.add_argument(
        "--alloc-prefix",
        action="append",
        default=[],
        metavar="PREFIX",
        help="also probe allocator functions named PREFIX + malloc, PREFIX + free, ...",
    )


def _add_listing(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--older",
        default="0.5",
        metavar="SECONDS",
        help="list blocks at least this old (default: %(default)s)",
    )
    group.add_argument("--min-size", metavar="BYTES", help="trace blocks at least this large")
    group.add_argument("--max-size", metavar="BYTES", help="trace blocks at most this large")
    group.add_argument(
        "--top", default="10", metavar="N", help="list so many stacks (default: %(default)s)"
    )
    group.add_argument(
        "--full-stacks",
        action="store_true",
        help="every frame of a stack in tables, the runtime's start-up code too",
    )


def _add_when(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-i",
        "--interval",
        default="5",
        metavar="SECONDS",
        help="time between snapshots (default: %(default)s)",
    )
    group.add_argument("--count", metavar="N", help="stop after so many snapshots")
    group.add_argument("--duration", metavar="SECONDS", help="stop after this time")


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--json", action="store_true", help="one JSON object per line instead of tables"
    )
    group.add_argument("-o", "--output", metavar="FILE", help="write there, not to stdout")
    group.add_argument(
        "--buffer", metavar="SIZE", help="ring size per CPU (default: 8M; less with many CPUs)"
    )
    group.add_argument(
        "--fail-on-leak", action="store_true", help="exit with 3 when the final verdict is leak"
    )


def _add_profiles(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--flamegraph", metavar="FILE", help="a flame graph: one HTML page, without network"
    )
    group.add_argument(
        "--pprof", metavar="FILE", help="for pprof: outstanding and allocated, bytes and blocks"
    )
    group.add_argument("--speedscope", metavar="FILE", help="for speedscope.app, as JSON")
    group.add_argument(
        "--folded", metavar="FILE", help="outstanding bytes by stack, for flamegraph.pl"
    )


def _profiles(arguments: argparse.Namespace) -> ProfileFiles:
    for name in ("folded", "pprof", "speedscope", "flamegraph"):
        if getattr(arguments, name) == "-":
            raise UsageError(f"--{name} - is no file", "give one: standard output has the report")
    return ProfileFiles(
        folded=arguments.folded,
        pprof=arguments.pprof,
        speedscope=arguments.speedscope,
        flamegraph=arguments.flamegraph,
    )


def _positive(option: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UsageError(f"{option} {text!r} is not a whole number above zero", f"try {option} 10")
    return int(text)


def _pids(values: list[str]) -> tuple[int, ...]:
    found = []
    for text in re.split(r"[,\s]+", ",".join(values).strip()) if values else ():  # as pidof prints
        if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 22:
            raise UsageError(f"--pid {text!r} is not a process id", "give numbers: --pid 12,34")
        found.append(int(text))
    return tuple(dict.fromkeys(found))


def _buffer(text: str | None) -> int:
    """Rounded up to what a ring can be: a power of two of at least a page."""
    if text is None:
        return default_ring_size()
    size = parse_size(text)
    if not _MIN_BUFFER <= size <= _MAX_BUFFER:
        raise UsageError(f"--buffer {text!r} is outside 4K to 1G", "try --buffer 16M")
    return max(os.sysconf("SC_PAGESIZE"), 1 << (size - 1).bit_length())


def _trace(expression: str | None) -> frozenset[str] | None:
    from kwatch.syscalls.select import parse_trace

    return parse_trace(expression) if expression is not None else None


def _listing(arguments: argparse.Namespace) -> Listing:
    smallest = parse_size(arguments.min_size) if arguments.min_size is not None else 0
    largest = parse_size(arguments.max_size) if arguments.max_size is not None else UNLIMITED
    if smallest > largest:
        raise UsageError("--min-size is larger than --max-size", "no block could match both")
    top = _positive("--top", arguments.top)
    older = parse_seconds(arguments.older, or_zero=True)
    return Listing(older, smallest, largest, top, arguments.full_stacks)


def _wants_heap(arguments: argparse.Namespace) -> bool:
    if arguments.heap is None:
        return bool(arguments.pid or arguments.comm or arguments.command)
    return bool(arguments.heap)


def _refuse_contradictions(arguments: argparse.Namespace) -> None:
    """Options of which each is right, but not together."""
    heap, profiles = _wants_heap(arguments), _profiles(arguments)
    if arguments.follow and not (arguments.pid or arguments.comm or arguments.command):
        raise UsageError(
            "--follow without a target: without one, every process is traced anyway",
            "drop it, or say whose children: --pid PID, --comm NAME, or -- COMMAND",
        )
    if not heap and not arguments.syscalls:
        raise UsageError("--no-heap and --no-syscalls leave nothing to trace", "drop one of them")
    if arguments.expression is not None and not arguments.syscalls:
        raise UsageError(
            "-e selects system calls, and --no-syscalls traces none", "drop one of them"
        )
    if arguments.fail_on_leak and not heap:
        raise UsageError("--fail-on-leak without --heap could never fail", "drop one of them")
    if profiles.wanted and not heap:
        raise UsageError("a profile without --heap would be empty", "drop it, or add --heap")
    if profiles.wanted and arguments.stacks is False:
        raise UsageError("a profile with --no-stacks would have no stacks", "drop one of them")


def _duration(text: str | None) -> float | None:
    return parse_seconds(text) if text is not None else None


def _count(text: str | None) -> int | None:
    return _positive("--count", text) if text is not None else None


def options_from(arguments: argparse.Namespace) -> WatchOptions:
    """Raises UsageError."""
    from kwatch.targets.globs import check

    if len(arguments.comm) > MAX_PATTERNS:
        raise UsageError(f"more than {MAX_PATTERNS} --comm", "use a glob that matches several")
    _refuse_contradictions(arguments)
    heap, trace = _wants_heap(arguments), _trace(arguments.expression)
    if trace is not None and not trace and not heap:
        raise UsageError(
            f"-e {arguments.expression!r} without --heap leaves nothing to trace", "add --heap"
        )
    return WatchOptions(
        pids=_pids(arguments.pid),
        comms=tuple(check(glob) for glob in arguments.comm),
        command=tuple(arguments.command),
        follow=arguments.follow,
        heap=heap,
        heap_stacks=heap and arguments.stacks is not False,
        syscalls=arguments.syscalls,
        call_stacks=arguments.syscalls and arguments.stacks is True,
        trace=trace,
        listing=_listing(arguments),
        alloc_prefixes=tuple(arguments.alloc_prefix),
        interval_s=parse_seconds(arguments.interval),
        count=_count(arguments.count),
        duration_s=_duration(arguments.duration),
        json=arguments.json,
        output=None if arguments.output == "-" else arguments.output,
        profiles=_profiles(arguments),
        buffer=_buffer(arguments.buffer),
        fail_on_leak=arguments.fail_on_leak,
    )


def run(arguments: argparse.Namespace) -> int:
    """Checks what it can, starts to compile, and only then imports what is heavy."""
    from kwatch.kernel.privileges import (
        raise_descriptor_limit,
        require_initial_pid_namespace,
        require_root,
    )
    from kwatch.programs.loader import Loader
    from kwatch.targets import processes
    from kwatch.targets.launch import resolve

    signals = Signals()  # before there is anything that a signal would leave behind
    options = options_from(arguments)
    for pid in options.pids:
        processes.require(pid)
    if options.command:
        resolve(options.command[0])
    require_root()
    require_initial_pid_namespace()
    raise_descriptor_limit()
    with closing(Loader(program_config(options))) as loader:
        from kwatch.commands.watch.loop import Watch

        try:
            watch = Watch(options, loader, signals)
        except Refused as error:
            from kwatch.commands.doctor.features import diagnosed

            raise diagnosed(error) from error
    return watch.run()


def program_config(options: WatchOptions) -> ProgramConfig:
    """What the BPF programs are to be built for."""
    from kwatch.targets.globs import automaton

    patterns = filter(None, map(automaton, options.comms))
    return ProgramConfig(
        heap=options.heap,
        heap_stacks=options.heap_stacks,
        call_stacks=options.call_stacks,
        system_wide=options.system_wide,
        comm_patterns=len(list(patterns)),
        follow=options.follow,
        min_size=options.listing.min_size,
        max_size=options.listing.max_size,
    )
