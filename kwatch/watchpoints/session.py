# SPDX-License-Identifier: Apache-2.0
"""A tracing session with a watchpoint in one process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack, closing

from kwatch.kernel.privileges import refused
from kwatch.model.hit_place import HitPlace
from kwatch.model.options import TraceOptions
from kwatch.processes.process import Process
from kwatch.procfs.address_space import AddressSpace
from kwatch.programs.loader import Loader
from kwatch.programs.sources import WATCH
from kwatch.session.live import LiveSession
from kwatch.session.loss_periods import LossPeriods
from kwatch.symbols.stack import Stack
from kwatch.symbols.symbolizer_thread import SymbolizerThread
from kwatch.system.signals import Signals
from kwatch.targets.processes import require
from kwatch.watchpoints.blocks.parts import EndWatch, watch_blocks
from kwatch.watchpoints.fixed import FixedWatch
from kwatch.watchpoints.hits import Hits, run
from kwatch.watchpoints.options import OnHit, WatchOptions
from kwatch.watchpoints.place import not_found
from kwatch.watchpoints.watched import Watch, Watched
from kwatch.watchpoints.watchpoint import Watchpoint
from kwatch.wire.events import Batch


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
        self._watch: Watch | None = None
        self._losses: LossPeriods | None = None  # none before anything is watched
        self.hits = Hits(options.site, self._watched_at)
        with ExitStack() as stack:
            stack.callback(self.hits.close)
            self.live = stack.enter_context(
                closing(LiveSession(traced, loader, signals, say, self._end, [self]))
            )
            self._losses = LossPeriods(self.live.session.losses)
            self.watchpoint = stack.enter_context(closing(self._watchpoint()))
            self.blocks = watch_blocks(options, self.watchpoint) if options.of_blocks else None
            self._watch = self.blocks or FixedWatch(options, self.watchpoint)
            launched = self.live.launched
            self.pid = launched.pid if launched is not None else traced.pids[0]
            self._process = self._opened_process(stack)
            self.live.attach()
            if launched is None and not self.arm() and self.blocks is None:
                require(self.pid)
                raise not_found(self.pid, options.site.name)
            self._opened = stack.pop_all()

    def _opened_process(self, stack: ExitStack) -> int:
        """A descriptor of the process, opened before the attach, which tells if it is another one.

        Raises KwatchError if the process has ended.
        """
        try:
            fd = os.pidfd_open(self.pid)
        except OSError as error:
            require(self.pid)
            raise refused(f"process {self.pid} cannot be opened", error) from error
        stack.callback(os.close, fd)
        return fd

    def stop_process(self) -> bool:
        """Sends SIGSTOP; returns False if the process has ended, even if its pid was reused."""
        try:
            signal.pidfd_send_signal(self._process, signal.SIGSTOP)
        except ProcessLookupError:
            return False
        return True

    def _watchpoint(self) -> Watchpoint:
        """A program cannot tell blocks that have ended, so kwatch itself stops the process then."""
        programs = self.live.tracer.programs
        stops = OnHit.STOP in self._options.on_hit and not self._options.of_blocks
        return Watchpoint(programs.maps, programs.programs["watch_hit"], stops)

    def arm(self) -> bool:
        """Sets the watchpoint where it belongs now; returns whether it is set.

        Raises KwatchError.
        """
        mm_id = self.live.tracer.targets.mm_id(self.pid)
        if self._ended is not None or self._watch is None or not mm_id:
            return False
        if self.blocks is not None:
            self.blocks.stacks.begin_naming(self._thread)
        if isinstance(self.blocks, EndWatch):
            self.blocks.has_headers = self._has_glibc_alone()
        try:
            return self._watch.arm(self.pid, mm_id)
        except ProcessLookupError:  # it has ended, and its exit is yet to be read
            return False

    def _has_glibc_alone(self) -> bool:
        """Whether every probed allocator is glibc's."""
        process = self.live.session.process_table.get(self.pid)
        probed = process.coverage.probed if process is not None else []
        return bool(probed) and all(line.endswith("/libc.so.6") for line in probed)

    def name_the_rest(self) -> None:
        """Waits until it is known which stacks are of the site."""
        if self.blocks is not None:
            self.blocks.stacks.begin_naming(self._thread)
            run(self._thread, lambda symbolizer: None, self._signals.check)

    def new_places(self, at_end: bool = False) -> list[HitPlace]:
        """Places that were hit for the first time since the last call, with their names."""
        places = self.hits.complete(self._thread, self._space_of, self._signals.check, at_end)
        for place in places if self.blocks is not None else ():
            place.allocated = self.blocks.stacks.frames(place.block_stack) if self.blocks else ()
        return places

    def on_batch(self, source: str, batch: Batch) -> None:
        of_target = batch[batch["tgid"] == self.pid]
        if self._watch is not None:
            self._watch.on_batch(source, of_target)
        if source == WATCH and len(of_target):
            self._read_losses()
            self.hits.add(of_target)

    def on_stack(self, process: Process, identity: int, stack: Stack) -> None:
        if self._watch is not None and process.pid == self.pid:
            self._watch.on_stack(process, identity, stack)
        self.hits.add_stack(process.pid, identity, stack)

    @property
    def missed(self) -> int:
        """Hits that the kernel has counted and that were neither recorded nor lost in a ring."""
        return self.watchpoint.missed(self.hits.count + self.hits.ignored)

    def close(self) -> None:
        self._opened.close()

    @property
    def _thread(self) -> SymbolizerThread:
        thread = self.live.session.symbolizer_thread
        assert thread is not None  # hits have stacks
        return thread

    def _watched_at(self, time_ns: int) -> Watched | None:
        """With what was lost until the hit: the losses are read after its delivery."""
        watched = self._watch.watched_at(time_ns) if self._watch is not None else None
        if watched is None or not watched.since_ns or self._losses is None:
            return watched
        return watched._replace(is_unsure=self._losses.has_any(watched.since_ns, time_ns))

    def _read_losses(self) -> None:
        if self._losses is not None and self.blocks is not None:
            self.live.session.losses.refresh_of(self.pid)
            self._losses.read(self.pid)

    def _space_of(self, pid: int) -> AddressSpace:
        process = self.live.session.process_table.get(pid) or self._ended
        return process.code.space if process is not None else AddressSpace()

    def _end(self, process: Process) -> None:
        if process.pid == self.pid:
            self._ended = process
            self._read_losses()  # the counters of a process that has ended are removed
        self._on_exit(process)
