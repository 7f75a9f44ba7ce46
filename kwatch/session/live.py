# SPDX-License-Identifier: Apache-2.0
"""A running session: loaded programs, attached targets, and one step of their event loop.

Every tracing command uses this. The constructor opens the rings; `attach` attaches the targets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial

from kwatch.errors import KwatchError
from kwatch.kernel.btf import runtime_types
from kwatch.model.options import Releases, TraceOptions
from kwatch.model.process import ProcessFacts
from kwatch.processes.process import Process
from kwatch.programs.loader import Loader
from kwatch.programs.sources import EVENT_SOURCES, SYSCALLS
from kwatch.rings.data_rings import event_of
from kwatch.rings.stream import Drained
from kwatch.session.attaching import Attaching
from kwatch.session.notices import Notices, Progress
from kwatch.session.observer import Observer
from kwatch.session.pending_requests import requests_in_progress
from kwatch.session.release_windows import ReleaseWindows
from kwatch.session.session import Session
from kwatch.session.tracees import Tracees
from kwatch.session.tracer import Tracer
from kwatch.system.priority import raise_reader_priority
from kwatch.system.signals import Signals
from kwatch.targets import processes
from kwatch.targets.connector import Connector
from kwatch.targets.launch import Launched, program_files

_GONE_S = 1.0  # between searches for processes whose exit was lost,
_REST = 20  # or this many times as long as a search takes, if that is longer


def _ignore(process: Process) -> None:
    """Does nothing at the end of a process."""


class LiveSession:
    """Closing it detaches everything. A failed start leaves nothing behind.

    `say` prints a message. `on_exit` is called with each process that ends, while it is still in
    the process table. `observers` see every event and stack.
    """

    def __init__(
        self,
        options: TraceOptions,
        loader: Loader,
        signals: Signals,
        say: Callable[[str], None],
        on_exit: Callable[[Process], None] = _ignore,
        observers: Sequence[Observer] = (),
    ) -> None:
        """Waits for the compiled programs. Raises KwatchError, or Interrupted by a signal."""
        self.options = options
        self._signals = signals
        self._notices = Notices(say)
        self._next_gone = 0.0
        with ExitStack() as stack:
            stack.callback(loader.close)
            self._by_pid = self._running(options.pids)
            self.launched = Launched(options.command) if options.command else None
            if self.launched is not None:
                stack.callback(self.launched.abandon)
            if options.heap:
                with suppress(KwatchError):  # whoever needs them tells
                    runtime_types()  # meanwhile, the programs are compiled
            signals.wait_for(loader)
            self.tracer = stack.enter_context(closing(Tracer(options, loader.result())))
            self.session = stack.enter_context(
                closing(Session(options, self.tracer, self._notices, on_exit, observers))
            )
            self._attaching = Attaching(options, self.tracer, self.session.stacks, self.tracees)
            with suppress(KwatchError):  # `kwatch doctor` tells
                raise_reader_priority()
            self._release_windows = self._windows() if options.learns_releases else None
            self._connector = stack.enter_context(closing(Connector())) if options.comms else None
            self._opened = stack.pop_all()

    def _windows(self) -> ReleaseWindows:
        return ReleaseWindows(
            self.tracer.programs.maps["release_switches"],
            self.session.process_table,
            lambda: self.tracer.stream.delivered_ns,
            self.options.releases is Releases.ALWAYS,
        )

    @property
    def tracees(self) -> Tracees:
        return self.session.tracees

    def attach(self) -> None:
        """Attaches the targets. Raises Interrupted if a signal arrives meanwhile."""
        named = self._attaching.named()
        progress = Progress(self._notices, len(self._by_pid) + len(named))
        self._attach_by_pid(progress)
        if self.options.system_wide and self.options.heap:
            self._attaching.attach_system()
        if self.launched is not None:
            self._attach_launched(self.launched)
        for pid in named:
            self._attaching.attach_named(pid)
            progress.step()
            self._signals.check()
        # An early end is an error, at whatever moment it happened.
        self._warn(processes.present(self._by_pid, processes.require_still)[1])
        self._signals.check()
        for source in (self._signals, self._connector):
            if source is not None:
                self.watch(source.fileno())

    def _running(self, pids: Sequence[int]) -> list[ProcessFacts]:
        found, ended = processes.present(pids, processes.require)
        self._warn(ended)
        return found

    def _attach_by_pid(self, progress: Progress) -> None:
        def attach(facts: ProcessFacts) -> ProcessFacts:
            self._signals.check()
            self._attaching.attach(facts)
            progress.step()
            return facts

        self._by_pid, ended = processes.present(self._by_pid, attach)
        for facts, _ in ended:
            self._attaching.leave_out(facts)
        self._warn(ended)

    def _warn(self, ended: Iterable[tuple[object, processes.Ended]]) -> None:
        """Says which of several processes that the user named have ended."""
        for _, error in ended:
            self._notices.warn(f"{error}; the others are traced")

    def _attach_launched(self, launched: Launched) -> None:
        found = processes.facts(launched.pid)
        if found is None:
            raise KwatchError("the launched child died before its exec", "try again")
        files = program_files(launched.path) if self.options.mappings else []
        self._attaching.attach_launched(found, files)

    def watch(self, fd: int) -> None:
        """Makes `wait` also return when this descriptor is readable."""
        self.tracer.stream.watch(fd)

    def start(self, at_first: Callable[[int], None] | None = None) -> None:
        """Lets a launched command run; later attaches are announced from now on.

        `at_first` is called with its pid before its first instruction: see Launched.release.
        """
        if not self.options.system_wide:
            self._notices.start_announcing()
        if self._release_windows is not None:
            self._release_windows.update()
        if self.launched is not None:
            pid = self.launched.pid
            if at_first is not None:
                self.tracer.held.expect(pid)  # its exec may be one that cannot be stopped
            self.launched.release(partial(at_first, pid) if at_first is not None else None)

    def wait(self, seconds: float) -> set[int]:
        """Waits for events for at most `seconds`; returns the readable descriptors."""
        if self.options.heap:
            seconds = min(seconds, self.tracees.usage.seconds_left)
        if self._release_windows is not None:
            seconds = min(seconds, self._release_windows.seconds_left)
        longest = 0.0 if self.session.is_behind else seconds
        return self.tracer.stream.wait(longest, self.session.concerns)

    def step(self, ready: set[int]) -> None:
        """Applies all events until now. `ready`: the result of `wait`."""
        renamed = self._renamed(ready)
        self.tracer.held.renew()
        self._deliver(with_sums=False)
        gone = self._gone()
        if gone:
            self.take_sums()
        self.tracees.end_gone(gone)
        if self.options.heap:
            self.tracees.usage.read_due()
        if self._release_windows is not None:
            self._release_windows.update()
        for pid in renamed:  # after an exec that ended the target of the same pid is applied
            self._attaching.attach_named(pid, late=True)

    def take_sums(self) -> None:
        """Applies all events until now, and what system calls have added to their sums."""
        self._deliver(with_sums=True)

    def _deliver(self, with_sums: bool) -> None:
        room = self.session.has_room_for_stacks
        self.tracer.stream.deliver(self.session.apply, with_stacks=room, with_sums=with_sums)

    def finish(self, is_wanted: Callable[[], bool]) -> None:
        """Detaches the tracepoints and applies the remaining events while `is_wanted`."""
        self.tracer.stop()
        self.tracer.stream.deliver_rest(self.session.apply, is_wanted)
        if self.options.syscalls:
            (source,) = (each for each in EVENT_SOURCES if each.name == SYSCALLS)
            calls, dtype = self.tracer.calls, event_of(source, self.options)
            last = [calls.returned(dtype)]
            if (areas := self.tracer.stream.areas) is not None:
                last.append(calls.in_progress(dtype, areas.own.hold))
                if requests := self.tracer.programs.maps.get("io_requests"):
                    last.append(requests_in_progress(requests, dtype))
            self.session.apply(Drained(unordered={SYSCALLS: last}))
        self.session.close_gaps()
        self.session.losses.finished = True
        self.session.losses.refresh()

    def close(self) -> None:
        self._opened.close()

    def _renamed(self, ready: set[int]) -> Iterable[int]:
        """Processes with a new name; all that match if some notifications were lost."""
        if self._connector is None or self._connector.fileno() not in ready:
            return ()
        renamed = self._connector.renamed()
        return processes.named(self.options.comms) if renamed is None else renamed

    def _gone(self) -> list[Process]:
        """Processes whose exit was lost. With many processes, the search takes time."""
        now = time.monotonic()
        if now < self._next_gone:
            return []
        losses = self.session.losses
        losses.refresh()
        has_ended = self.launched is not None and self.launched.has_ended()
        is_unsure = losses.may_hide_exit or has_ended
        gone = self.tracees.gone(self.tracer.stream.delivered_ns) if is_unsure else []
        took = time.monotonic() - now
        self._next_gone = now + max(_GONE_S, took * _REST)
        return gone
