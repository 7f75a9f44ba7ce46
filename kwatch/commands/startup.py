# SPDX-License-Identifier: Apache-2.0
"""The first steps of every tracing command: checks the machine and starts to compile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from kwatch.errors import Refused
from kwatch.model.options import TraceOptions
from kwatch.programs.source import ProgramConfig

if TYPE_CHECKING:
    from kwatch.programs.loader import Loader


@contextmanager
def compiling(options: TraceOptions) -> Iterator[Loader]:
    """A loader that compiles while the body imports heavy modules and attaches.

    Raises KwatchError. If the kernel refuses something in the body, the error gives the reason that
    `kwatch doctor` finds. Install signal handlers first: a signal must not leave the compiler
    running.
    """
    from kwatch.programs.loader import Loader

    _check(options)
    with closing(Loader(program_config(options))) as loader:
        try:
            yield loader
        except Refused as error:
            from kwatch.commands.doctor.features import diagnosed

            raise diagnosed(error) from error


def program_config(options: TraceOptions) -> ProgramConfig:
    """The settings that the BPF programs are built with."""
    from kwatch.targets.globs import automaton

    patterns = filter(None, map(automaton, options.comms))
    return ProgramConfig(
        heap=options.heap,
        heap_stacks=options.heap_stacks,
        call_stacks=options.call_stacks,
        call_sums=options.sums_calls,
        record=options.record,
        filter_code=options.filter_code,
        area=_area_size(options.buffer) if options.record else 0,
        watch=options.watch,
        every_block=options.every_block,
        perf_uprobes=options.perf_uprobes,
        system_wide=options.system_wide,
        comm_patterns=len(list(patterns)),
        follow=options.follow,
        min_size=options.min_size,
        max_size=options.max_size,
    )


def _area_size(buffer: int) -> int:
    """Bytes of each CPU's area for the contents of calls: a power of two."""
    from kwatch.kernel.bpf_features import has_array_values
    from kwatch.wire.maps import MAX_CAPTURE

    size = max(buffer, 2 * MAX_CAPTURE)
    while size > 2 * MAX_CAPTURE and not has_array_values(size + MAX_CAPTURE):
        size //= 2
    return size


def _check(options: TraceOptions) -> None:
    """Raises KwatchError if tracing cannot work, before anything is started."""
    from kwatch.kernel import privileges
    from kwatch.targets import processes
    from kwatch.targets.launch import resolve

    # What kwatch itself lacks comes first: without it, /proc may hide that a process is there.
    for require in privileges.REQUIRED.values():
        require()
    processes.present(options.pids, processes.require)
    if options.command:
        resolve(options.command[0])
    privileges.raise_descriptor_limit()
