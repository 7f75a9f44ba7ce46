# SPDX-License-Identifier: Apache-2.0
"""Reports the memory that running processes leak, by call stack and source line, and their
system calls with counts, errors and latency."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from kwatch.commands.output_options import (
    add_output_options,
    add_profile_options,
    buffer_from,
    output_from,
    profiles_from,
)
from kwatch.commands.probe_options import add_probe_options, probed_from, refuse_empty
from kwatch.commands.startup import compiling
from kwatch.commands.target_options import add_target_options, has_target, targets_from
from kwatch.errors import UsageError
from kwatch.model.options import UNLIMITED, Releases, ReportOptions, TraceOptions
from kwatch.system import stdio
from kwatch.system.signals import Signals
from kwatch.units import parse_seconds, parse_size

if TYPE_CHECKING:
    from kwatch.commands.watch.mark_requests import MarkRequests

SUMMARY = "report leaks and system calls of running processes (the default command)"

TAKES_COMMAND = True

IF_INTERRUPTED = "; nothing was traced"

USAGE = "kwatch [TARGET] [WHAT] [WHEN] [OUTPUT] [-- COMMAND [ARG ...]]"

EXAMPLES = """\
examples:
  kwatch --pid 1234                 trace one process: its leaks and system calls
  kwatch --comm nginx -i 10         trace every nginx, now and later
  kwatch --no-heap -e trace=%file -- ls /tmp
                                    trace only the file system calls of a command
  kwatch --flamegraph heap.html -- ./program
                                    write the whole heap of a command as a page
  kwatch --fail-on-leak -- ./tests  exit with status 3 if the command leaked
  kwatch --mark --pid 1234          report what was allocated between two marks
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target_options(parser, "the system calls of every process")
    _add_what(parser.add_argument_group("what"))
    _add_listing(parser.add_argument_group("listing"))
    _add_when(parser.add_argument_group("when"))
    output = parser.add_argument_group("output")
    add_output_options(output)
    output.add_argument(
        "--fail-on-leak",
        action="store_true",
        help="exit with status 3 if the final verdict is `leak`",
    )
    output.add_argument(
        "--fail-on-growth",
        action="store_true",
        help="exit with status 3 if the final verdict is `leak` or `growing`",
    )
    _add_wrappers(parser.add_argument_group("functions that allocate for others"))
    add_profile_options(parser)


def _add_wrappers(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--wrappers",
        action="store_true",
        help="list the wrappers of the allocator in final reports: the reason of a verdict names "
        "their callers",
    )
    group.add_argument(
        "--wrapper",
        action="append",
        default=[],
        metavar="NAME",
        help="the function NAME is a wrapper; repeatable",
    )
    group.add_argument(
        "--no-wrapper",
        action="append",
        default=[],
        metavar="NAME",
        help="the function NAME is none; repeatable",
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
        help="record the call stacks of allocations and of system calls (default: of allocations)",
    )
    group.add_argument(
        "-e",
        dest="expression",
        metavar="trace=SET",
        help="trace these system calls: names, %%class, /regex and !, as in strace",
    )
    group.add_argument(
        "--scan-at-exit",
        action="store_true",
        help="search the memory of each target for lost blocks once more when it has ended (done "
        "without it for a launched command); until then its memory is not freed",
    )
    _add_probes(group)


def _add_probes(group: argparse._ArgumentGroup) -> None:
    """Which allocator functions are probed, and how."""
    group.add_argument(
        "--releases",
        choices=[each.value for each in Releases],
        default=Releases.SAMPLED.value,
        help="take the stacks of frees, to say where blocks are usually freed: `sampled` for 2 "
        "seconds, then for at most a second in ten (default), `always`, which slows each free, "
        "or `never`",
    )
    add_probe_options(group)


def _add_listing(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--older",
        default="0.5",
        metavar="SECONDS",
        help="list blocks that are at least this old (default: %(default)s)",
    )
    group.add_argument("--min-size", metavar="BYTES", help="trace blocks of at least this size")
    group.add_argument("--max-size", metavar="BYTES", help="trace blocks of at most this size")
    group.add_argument(
        "--top",
        default="10",
        metavar="N",
        help="list the N stacks with the most bytes (default: %(default)s)",
    )
    group.add_argument(
        "--who",
        metavar="FUNCTION",
        help="at the end, also show what holds the outstanding blocks that FUNCTION allocated or "
        "asked others for",
    )
    group.add_argument(
        "--full-stacks",
        action="store_true",
        help="show every frame in tables, including the allocator's and start-up code",
    )


def _add_when(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-i",
        "--interval",
        default="5",
        metavar="SECONDS",
        help="time between snapshots (default: %(default)s)",
    )
    group.add_argument(
        "--count",
        metavar="N",
        help="stop after N snapshots; in tables, the last is the final report",
    )
    group.add_argument("--duration", metavar="SECONDS", help="stop after this time")
    group.add_argument(
        "--mark",
        action="store_true",
        help="set a mark at SIGUSR1, at `kwatch mark --pid PID`, and at a line `m` on the terminal "
        "if kwatch launches no command; each mark but the first reports the blocks allocated since "
        "the one before and still outstanding",
    )


def options_from(arguments: argparse.Namespace) -> tuple[TraceOptions, ReportOptions]:
    """Raises UsageError."""
    targets = targets_from(arguments)
    _refuse_empty_names(arguments)
    _refuse_contradictions(arguments)
    heap, trace = _wants_heap(arguments), _trace(arguments.expression)
    if trace is not None and not trace and not heap:
        raise UsageError(
            f"-e {arguments.expression!r} without --heap leaves nothing to trace", "add --heap"
        )
    smallest, largest = _sizes(arguments)
    profiles = profiles_from(arguments)
    traced = TraceOptions(
        **targets._asdict(),
        heap=heap,
        heap_stacks=heap and arguments.stacks is not False,
        syscalls=arguments.syscalls,
        call_stacks=arguments.syscalls and arguments.stacks is True,
        trace=trace,
        min_size=smallest,
        max_size=largest,
        **probed_from(arguments)._asdict(),
        releases=Releases(arguments.releases),
        alloc_totals=bool(profiles) or arguments.wrappers,
        scan_at_exit=arguments.scan_at_exit,
        buffer=buffer_from(arguments),
    )
    return traced, _report_options(arguments, profiles)


def _report_options(arguments: argparse.Namespace, profiles: dict[str, str]) -> ReportOptions:
    duration, count = arguments.duration, arguments.count
    return ReportOptions(
        older_s=parse_seconds(arguments.older, or_zero=True),
        top=_positive("--top", arguments.top),
        full_stacks=arguments.full_stacks,
        interval_s=parse_seconds(arguments.interval),
        count=_positive("--count", count) if count is not None else None,
        duration_s=parse_seconds(duration) if duration is not None else None,
        json=arguments.json,
        output=output_from(arguments),
        profiles=profiles,
        fail_on_leak=arguments.fail_on_leak,
        fail_on_growth=arguments.fail_on_growth,
        who=arguments.who,
        wrappers=arguments.wrappers,
        wrapper_names=frozenset(arguments.wrapper),
        other_names=frozenset(arguments.no_wrapper),
        marks=arguments.mark,
    )


def _refuse_empty_names(arguments: argparse.Namespace) -> None:
    """Raises UsageError. A name is empty if a shell's variable is not set."""
    given = {
        "--who": [arguments.who],
        "--wrapper": arguments.wrapper,
        "--no-wrapper": arguments.no_wrapper,
    }
    for option, names in given.items():
        refuse_empty(option, names)


def _refuse_contradictions(arguments: argparse.Namespace) -> None:
    """Raises UsageError for options that are valid alone, but not together."""
    heap, profiles = _wants_heap(arguments), profiles_from(arguments)
    if not heap and not arguments.syscalls:
        raise UsageError("--no-heap and --no-syscalls leave nothing to trace", "drop one of them")
    if arguments.expression is not None and not arguments.syscalls:
        raise UsageError(
            "-e selects system calls, and --no-syscalls traces none", "drop one of them"
        )
    for option in ("--fail-on-leak", "--fail-on-growth"):
        if getattr(arguments, option[2:].replace("-", "_")) and not heap:
            raise UsageError(f"{option} without --heap could never fail", "drop one of them")
    if arguments.mark and not heap:
        raise UsageError("--mark without --heap would have nothing to report", "drop one of them")
    if arguments.scan_at_exit and not (heap and has_target(arguments)):
        raise UsageError(
            "--scan-at-exit needs the heap of a target", "add --pid PID or --comm NAME, and --heap"
        )
    _refuse_wrappers_in_vain(arguments, heap)
    _refuse_who_in_vain(arguments, heap)
    if profiles and not heap:
        raise UsageError("a profile without --heap would be empty", "drop it, or add --heap")
    if profiles and arguments.stacks is False:
        raise UsageError("a profile with --no-stacks would have no stacks", "drop one of them")


def _refuse_who_in_vain(arguments: argparse.Namespace, heap: bool) -> None:
    """Raises UsageError."""
    if arguments.who is None:
        return
    if not heap or arguments.stacks is False:
        raise UsageError(
            "--who needs the stacks of the heap", "drop it, or --no-heap and --no-stacks"
        )
    if not has_target(arguments):
        raise UsageError("--who needs a target", "add --pid PID, --comm NAME or -- COMMAND")


def _refuse_wrappers_in_vain(arguments: argparse.Namespace, heap: bool) -> None:
    """Raises UsageError."""
    given = arguments.wrappers or arguments.wrapper or arguments.no_wrapper
    if given and (not heap or arguments.stacks is False):
        raise UsageError(
            "--wrappers, --wrapper and --no-wrapper need the stacks of the heap",
            "drop them, or --no-heap and --no-stacks",
        )
    if both := sorted({*arguments.wrapper} & {*arguments.no_wrapper}):
        raise UsageError(f"{both[0]!r} cannot be a wrapper and none", "drop one of the options")


def _wants_heap(arguments: argparse.Namespace) -> bool:
    return has_target(arguments) if arguments.heap is None else bool(arguments.heap)


def _trace(expression: str | None) -> frozenset[str] | None:
    from kwatch.syscalls.select import parse_trace

    return parse_trace(expression) if expression is not None else None


def _sizes(arguments: argparse.Namespace) -> tuple[int, int]:
    smallest = parse_size(arguments.min_size) if arguments.min_size is not None else 0
    largest = parse_size(arguments.max_size) if arguments.max_size is not None else UNLIMITED
    if smallest > largest:
        raise UsageError("--min-size is larger than --max-size", "no block could match both")
    return smallest, largest


def _positive(option: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UsageError(f"{option} {text!r} is not a whole number above zero", f"try {option} 10")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    signals = Signals()  # first, so that no signal can leave anything behind
    stdio.obey(signals)
    traced, report = options_from(arguments)
    requests = _mark_requests(traced) if report.marks else None
    with compiling(traced) as loader:
        from kwatch.commands.watch.loop import Watch

        watch = Watch(traced, report, loader, signals, requests)
    return watch.run()


def _mark_requests(traced: TraceOptions) -> MarkRequests:
    from kwatch.commands.watch.mark_requests import MarkRequests

    return MarkRequests(has_command=bool(traced.command))
