# SPDX-License-Identifier: Apache-2.0
"""A tracing session with a watchpoint in one process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing

from kwatch.kernel.breakpoints import Breakpoint
from kwatch.model.hit_place import HitPlace
from kwatch.model.options import TraceOptions
from kwatch.processes.process import Process
from kwatch.procfs.address_space import AddressSpace
from kwatch.programs.loader import Loader
from kwatch.programs.sources import WATCH
from kwatch.session.live import LiveSession
from kwatch.system.signals import Signals
from kwatch.watchpoints.fixed import FixedWatch, not_found
from kwatch.watchpoints.hits import HitObserver, Hits
from kwatch.watchpoints.options import OnHit, WatchOptions
from kwatch.watchpoints.watchpoint import Watchpoint


class WatchSession:
    """The constructor attaches; if it fails, it leaves nothing behind. Closing detaches all."""

    def __init__(
        self,
        traced: TraceOptions,
        options: WatchOptions,
        loader: Loader,
        signals: Signals,
        say: Callable[[str], None],
        on_exit: Callable[[Process], None],
    ) -> None:
        """`traced` has one pid or a command. Raises KwatchError."""
        self._options = options
        self._signals = signals
        self._ended: Process | None = None
        self._on_exit = on_exit
        self.hits = Hits(options.site.text, self._watched_at)
        with ExitStack() as stack:
            seen = [HitObserver(self.hits, WATCH)]
            self.live = stack.enter_context(
                closing(LiveSession(traced, loader, signals, say, self._end, seen))
            )
            self.live.attach()
            programs = self.live.tracer.programs
            stops = OnHit.STOP in options.on_hit
            self.watchpoint = Watchpoint(programs.maps, programs.programs["watch_hit"], stops)
            stack.callback(self.watchpoint.close)
            stack.callback(self.hits.close)
            self.watch = FixedWatch(options, self.watchpoint)
            launched = self.live.launched
            self.pid = launched.pid if launched is not None else traced.pids[0]
            if launched is None:
                self._arm_or_fail()
            self._opened = stack.pop_all()

    def arm(self) -> bool:
        """Sets the watchpoint where that is possible now and was not before. Raises KwatchError."""
        if self._ended is not None:
            return False
        return self.watch.arm(self.pid, self.live.tracer.targets.mm_id(self.pid))

    def new_places(self, at_end: bool = False) -> list[HitPlace]:
        """Places that were hit for the first time since the last call, with their names."""
        thread = self.live.session.symbolizer_thread
        assert thread is not None  # hits have stacks
        return self.hits.complete(thread, self._space_of, self._signals.check, at_end)

    @property
    def missed(self) -> int:
        """Hits that the kernel has counted and that were neither recorded nor lost in a ring."""
        return self.watchpoint.missed(self.hits.count + self.hits.ignored)

    def close(self) -> None:
        self._opened.close()

    def _arm_or_fail(self) -> None:
        if not self.arm():
            raise not_found(self.pid, self._options.site.name)

    def _watched_at(self, time_ns: int) -> Breakpoint | None:
        return self.watch.watched_at(time_ns)

    def _space_of(self, pid: int) -> AddressSpace:
        process = self.live.session.process_table.get(pid) or self._ended
        return process.code.space if process is not None else AddressSpace()

    def _end(self, process: Process) -> None:
        if process.pid == self.pid:
            self._ended = process
        self._on_exit(process)
