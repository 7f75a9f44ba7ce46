# SPDX-License-Identifier: Apache-2.0
"""Lines for standard error: what is traced, and what is not."""

from __future__ import annotations

import glob
import shlex

from kwatch.model.options import TraceOptions
from kwatch.model.process import ProcessFacts
from kwatch.processes.process import Process
from kwatch.session.tracees import Tracees, heap_of_32_bits
from kwatch.targets.launch import Launched, is_32_bit
from kwatch.wire.allocators import ESSENTIAL

#: If the terminal's lines set marks.
KEY_LINE = "kwatch: type m and Enter to set a mark"

_MAX_PIDS = 8  # listed for people to copy


def attached_line(options: TraceOptions, tracees: Tracees, launched: Launched | None) -> str:
    """The line that says that all probes are in place. Scripts wait for it."""
    parts = [f"attached to {_who(options, tracees, launched)}"]
    if options.comms and launched is None and not len(tracees.process_table):
        return f"{parts[0]}: none is named {' or '.join(options.comms)}"
    if options.heap:
        in_32_bits = [p for p in tracees.process_table if p.has_32_bits or _will_have(launched, p)]
        missed = _heaps_of_32_bits(options, [_named(p, options, launched) for p in in_32_bits])
        parts.append(f"heap: {_coverage(tracees, missed)}")
    if options.syscalls:
        some = "selected" if options.trace is not None else "all"
        stacks = ", with stacks" if options.call_stacks else ""
        parts.append(f"system calls: {some}{stacks}")
    return "; ".join(parts)


def every_heap_line() -> str:
    """What tracing the heap of every process does to programs that do not even allocate."""
    return (
        "kwatch: until kwatch ends, a program that reads a probed library through a private "
        "mapping, as git does, reads kwatch's breakpoints instead of some bytes"
    )


def nothing_traced_line(comms: tuple[str, ...]) -> str:
    """For the end of a run in which no process matched."""
    return f"kwatch: nothing was traced: no process was named {' or '.join(comms)}"


def _who(options: TraceOptions, tracees: Tracees, launched: Launched | None) -> str:
    if options.system_wide:
        return "every process"
    traced = [_named(process, options, launched) for process in tracees.process_table]
    if launched is not None:
        return next(name for name in traced if name.endswith(f"[{launched.pid}]"))
    if not traced:
        return "no process yet"
    return traced[0] if len(traced) == 1 else f"{len(traced)} processes"


def _named(process: Process, options: TraceOptions, launched: Launched | None) -> str:
    """A command that has not exec'ed yet is shown under its future name."""
    is_command = launched is not None and launched.pid == process.pid
    return f"{options.command[0] if is_command else process.facts.comm}[{process.pid}]"


def _will_have(launched: Launched | None, process: Process) -> bool:
    """Whether the process is the launched command and will run 32-bit code."""
    return launched is not None and launched.pid == process.pid and is_32_bit(launched.path)


def _heaps_of_32_bits(options: TraceOptions, names: list[str]) -> list[str]:
    if not names:
        return []
    who = names[0] if len(names) == 1 else f"{len(names)} processes such as {names[0]}"
    return [f"not of {who} ({heap_of_32_bits(options.syscalls, len(names) > 1)})"]


def _coverage(tracees: Tracees, missed: list[str]) -> str:
    """What is probed, by file, and what could not be probed."""
    coverages = [tracees.system, *(process.coverage for process in tracees.process_table)]
    probed = {line for coverage in coverages for line in coverage.probed}
    refused = {name: why for coverage in coverages for name, why in coverage.refused.items()}
    missed = [*(f"not {name} ({why})" for name, why in refused.items()), *missed]
    missed += [
        f"not of {process.facts.comm}[{process.pid}] ({process.coverage.unsafe})"
        for process in tracees.process_table
        if process.coverage.unsafe
    ]
    if tracees.unreadable:
        missed.append(_unreadable(tracees.unreadable))
    missed += [f"no match yet for --alloc-prefix {prefix}" for prefix in tracees.unmatched_prefixes]
    return ", ".join(sorted(probed) + missed) or "no allocator found yet"


def _unreadable(pids: set[int]) -> str:
    """One phrase covers all: only one check can fail (ptrace_may_access(), kernel/ptrace.c)."""
    if len(pids) == 1:
        who, their = f"process {min(pids)}", "its"
    else:
        who, their = f"{len(pids)} processes such as {min(pids)}", "their"
    return f"not allocators used only by {who} (reading {their} mappings needs CAP_SYS_PTRACE)"


def unmatched_line(prefix: str) -> str:
    names = " and ".join(prefix + name for name in ESSENTIAL)
    return f"kwatch: --alloc-prefix {prefix} matched nothing: no file of a target has {names}"


def uncalled_line(process: Process, shown: str, functions: int) -> str:
    """For the end. The file may only look like the allocator, or its functions were inlined."""
    who = f"{process.facts.comm}[{process.pid}]"
    why = "it was idle, or uses another allocator (see docs/troubleshooting.md)"
    return f"kwatch: {who}: 0 calls so far to the {functions} probed functions of {shown}: {why}"


def untraced_line(children: list[ProcessFacts]) -> str:
    """For children that targets had forked before kwatch attached."""
    count = len(children)
    existing = "1 existing child is" if count == 1 else f"{count} existing children are"
    options = []
    if count <= _MAX_PIDS:
        options.append(f"--pid {','.join(str(child.pid) for child in children)}")
    if len(comms := {child.comm for child in children}) == 1:
        options.append(f"--comm {shlex.quote(glob.escape(comms.pop()))}")
    add = " or ".join(options) or "their --pid or --comm"
    return (
        "kwatch: --follow traces only children forked from now on; "
        f"{existing} not traced: add {add}"
    )


def nobody_left_line(function: str) -> str:
    return (
        f"kwatch: what holds the blocks of {function} is not known: every process has "
        "ended; end kwatch before that, with --duration or ^C"
    )
