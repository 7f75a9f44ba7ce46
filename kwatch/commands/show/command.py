# SPDX-License-Identifier: Apache-2.0
"""Shows the system calls of a recording as lines, as `kwatch trace` does while they happen.

It needs neither root nor BPF, nor the machine that was recorded."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain, islice
from typing import TYPE_CHECKING

from kwatch.commands.call_options import SUBMITS, add_call_options, chosen_names
from kwatch.commands.output_options import add_format_options
from kwatch.commands.recording_options import require_packages
from kwatch.commands.trace.command import (
    add_descriptor_option,
    add_line_options,
    add_outcome_options,
    output_options_from,
)
from kwatch.errors import ExitCode
from kwatch.model.traced_call import REQUESTS, Moment, TracedCall
from kwatch.system import stdio
from kwatch.system.signals import Signals

if TYPE_CHECKING:
    from kwatch.descriptors.descriptors import Descriptors
    from kwatch.recording.manifest import Recording

SUMMARY = "show a recording, a line for each system call"

USAGE = "kwatch show DIR [WHAT] [LINES] [OUTPUT]"

EXAMPLES = """\
examples:
  kwatch show run1 -tt -T                with the time of day and the time spent in each
  kwatch show run1 -e trace=%file -Z     the calls on files that failed
  kwatch show run1 --filter 'tid = 4711 and duration > 10ms'
"""

_AT_ONCE = 1000  # calls that are written together
_NOT_CALLS = (Moment.SIGNAL, Moment.ENDED)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="what `kwatch record` wrote")
    what = parser.add_argument_group("what")
    add_call_options(what, "show")
    add_outcome_options(what)
    lines = parser.add_argument_group("lines")
    add_line_options(lines)
    add_descriptor_option(lines)
    add_format_options(parser.add_argument_group("output"))


def run(arguments: argparse.Namespace) -> int:
    signals = Signals()
    stdio.obey(signals)
    require_packages("pyarrow")
    options, names = output_options_from(arguments), chosen_names(arguments)

    from kwatch.commands.recording_notes import notes
    from kwatch.commands.trace.filtering import CallFilter, wanted
    from kwatch.commands.trace.output import TraceOutput
    from kwatch.recording.manifest import open_recording
    from kwatch.recording.verified_calls import verified_calls

    recording = open_recording(arguments.directory)
    calls: Iterable[TracedCall] = _until_signal(verified_calls(recording), signals)
    descriptors = None
    if arguments.descriptors:
        descriptors = _descriptors(recording, details=arguments.descriptors > 1)
        calls = descriptors.follow(calls)
    if names is not None:
        calls = _named(calls, names)
    if options.filter is not None:
        calls = CallFilter(options.filter).chosen(calls)
    stack_of = None
    if options.stacks:
        from kwatch.recording.stack_texts import RecordedStacks

        recording.verify(["stacks"])
        stack_of = RecordedStacks(recording).frames
    shown = wanted(calls, options)
    with closing(TraceOutput(options, True, descriptors, stack_of)) as output:
        while first := next(shown, None):
            output.write(chain([first], islice(shown, _AT_ONCE)))
    for line in notes(recording):
        stdio.say(line)
    return ExitCode.DONE


def _descriptors(recording: Recording, details: bool) -> Descriptors:
    """`details`: -yy."""
    from kwatch.descriptors.descriptors import Descriptors
    from kwatch.recording.descriptor_source import RecordedSource, open_before

    recording.verify(["processes", "descriptors"])
    descriptors = Descriptors(RecordedSource(recording), details)
    for pid, found in open_before(recording).items():
        descriptors.seed(pid, found)
    return descriptors


def _until_signal(calls: Iterable[TracedCall], signals: Signals) -> Iterator[TracedCall]:
    """Raises Interrupted."""
    for number, call in enumerate(calls):
        if number % _AT_ONCE == 0:
            signals.check()
        yield call


def _named(calls: Iterable[TracedCall], names: frozenset[str]) -> Iterator[TracedCall]:
    """With io_uring_enter, the requests of io_uring."""
    with_requests = SUBMITS in names
    for call in calls:
        if call.moment in REQUESTS:
            if with_requests:
                yield call
        elif call.name in names or call.moment in _NOT_CALLS:
            yield call
