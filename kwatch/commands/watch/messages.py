# SPDX-License-Identifier: Apache-2.0
"""What is said once every probe is in place: what is traced, and what is not."""

from __future__ import annotations

import glob
import shlex

from kwatch.model.options import TraceOptions
from kwatch.model.process import ProcessFacts
from kwatch.processes.process import Process
from kwatch.session.tracees import Tracees, heap_of_32_bits
from kwatch.targets.launch import Launched, is_32_bit
from kwatch.wire.allocators import ESSENTIAL

_MAX_PIDS = 8  # that are listed for people to copy


def attached_line(options: TraceOptions, tracees: Tracees, launched: Launched | None) -> str:
    """Scripts wait for this line."""
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


def nobody_line(comms: tuple[str, ...]) -> str:
    """At the end, where no report says anything."""
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
    """A command that waits for its exec is called by what it will be."""
    is_command = launched is not None and launched.pid == process.pid
    return f"{options.command[0] if is_command else process.facts.comm}[{process.pid}]"


def _will_have(launched: Launched | None, process: Process) -> bool:
    """Whether it is a command that will run 32-bit code."""
    return launched is not None and launched.pid == process.pid and is_32_bit(launched.path)


def _heaps_of_32_bits(options: TraceOptions, names: list[str]) -> list[str]:
    if not names:
        return []
    who = names[0] if len(names) == 1 else f"{len(names)} processes such as {names[0]}"
    return [f"not of {who} ({heap_of_32_bits(options.syscalls, len(names) > 1)})"]


def _coverage(tracees: Tracees, missed: list[str]) -> str:
    """What was hooked, by file, and what was refused."""
    coverages = [tracees.system, *(process.coverage for process in tracees.process_table)]
    hooked = {line for coverage in coverages for line in coverage.hooked}
    refused = {name: why for coverage in coverages for name, why in coverage.refused.items()}
    missed = [*(f"not {name} ({why})" for name, why in refused.items()), *missed]
    if tracees.unreadable:
        missed.append(_unreadable(tracees.unreadable))
    missed += [f"nothing yet for --alloc-prefix {prefix}" for prefix in tracees.unmatched_prefixes]
    return ", ".join(sorted(hooked) + missed) or "no allocator found yet"


def _unreadable(pids: set[int]) -> str:
    """One phrase for all: who may look is one question (ptrace_may_access(), kernel/ptrace.c)."""
    many = f"{len(pids)} processes such as {min(pids)} alone have"
    who = many if len(pids) > 1 else f"process {min(pids)} alone has"
    return f"not allocators that {who} (reading the mappings takes CAP_SYS_PTRACE)"


def unmatched_line(prefix: str) -> str:
    names = " and ".join(prefix + name for name in ESSENTIAL)
    return f"kwatch: --alloc-prefix {prefix} matched nothing: no file of the targets has {names}"


def untraced_line(children: list[ProcessFacts]) -> str:
    """Of processes whose parents are followed, but not they, as they ran already."""
    run = (
        "1 that runs already is" if len(children) == 1 else f"{len(children)} that run already are"
    )
    ways = []
    if len(children) <= _MAX_PIDS:
        ways.append(f"--pid {','.join(str(child.pid) for child in children)}")
    if len(comms := {child.comm for child in children}) == 1:
        ways.append(f"--comm {shlex.quote(glob.escape(comms.pop()))}")
    add = " or ".join(ways) or "their --pid or --comm"
    return f"kwatch: --follow takes children from their fork on; {run} not traced: add {add}"
