# SPDX-License-Identifier: Apache-2.0
"""What this machine can do, found by trying it; versions are never compared."""

from __future__ import annotations

import importlib.util
import mmap
import os
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace

from kwatch.errors import KwatchError, Refused
from kwatch.kernel import bpf, bpf_features, perf, privileges
from kwatch.kernel.btf import KernelTypes
from kwatch.kernel.emulation import INSTRUCTIONS, emulates
from kwatch.kernel.no_preempt import may_be_unpreempted
from kwatch.kernel.privileges import cure_of, is_privileged, require_mounts
from kwatch.kernel.userfaultfd import MissingPages
from kwatch.programs import io_uring, tracepoints
from kwatch.programs.loader import BCC_HINT, Loader, Programs
from kwatch.programs.source import AttachMethods, ProgramConfig
from kwatch.programs.sources import TRACEPOINTS
from kwatch.system.priority import raise_reader_priority
from kwatch.wire.maps import MAX_CAPTURE

_WITH_LINKS = "heap probes, cheap to remove"
_LOCKDOWN = "/sys/kernel/security/lockdown"


@dataclass(frozen=True, slots=True)
class Feature:
    """One capability. `needed`: kwatch cannot do its main job without it."""

    name: str
    works: bool
    needed: bool
    purpose: str
    reason: str = ""
    cure: str = ""


Check = Callable[[], None]


def _architecture() -> None:
    if platform.machine() not in ("x86_64", "aarch64"):
        raise KwatchError(f"this is {platform.machine()}", "use x86-64 or arm64")


def _lockdown() -> None:
    if not os.path.exists(_LOCKDOWN):
        return
    with open(_LOCKDOWN) as file:
        mode = file.read()
    if "[confidentiality]" in mode:
        raise KwatchError(
            "the kernel is in lockdown mode (confidentiality): BPF programs may not read memory",
            "boot with lockdown=integrity",
        )


def _bcc() -> None:
    found = importlib.util.find_spec("bcc")
    if found is None:
        raise KwatchError("the Python bindings of bcc are missing", BCC_HINT)
    folders = found.submodule_search_locations or []
    if not any(os.path.exists(os.path.join(folder, "libbcc.py")) for folder in folders):
        raise KwatchError("the module bcc is not the BPF Compiler Collection", BCC_HINT)


def _libdw() -> None:
    from kwatch.symbols.dwarf.libdw_api import load_libdw

    load_libdw()


def _btf() -> None:
    KernelTypes().offsets()


def _perf_ring() -> None:
    os.close(perf.open_output(0, mmap.PAGESIZE))


def _ring_buffer() -> None:
    """Linux 5.8, commit 457f44363a88."""
    os.close(bpf.create_map("probe_ring", bpf.MapShape(bpf.MAP_TYPE_RINGBUF, 0, 0, mmap.PAGESIZE)))


def _connector() -> None:
    from kwatch.targets.connector import Connector

    Connector().close()


def _userfaultfd() -> None:
    MissingPages(1).close()


def _priority() -> None:
    """Tries it in another thread, which alone gets it."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(raise_reader_priority).result()


def _mapped_rings() -> None:
    if not bpf_features.has_compare_and_exchange():
        raise KwatchError(
            "BPF programs have no compare-and-exchange (before Linux 5.12, on arm64 5.18)",
            "nothing to do: kwatch uses BPF ring buffers instead, but `kwatch trace` cannot run",
        )


def _young_blocks() -> None:
    if not bpf_features.keeps_young_blocks():
        raise KwatchError(
            "they need mapped rings, and a way to run a BPF program (Linux 5.10)",
            "nothing to do: each allocation and each free has an event",
        )


def _uprobe_links() -> None:
    if not bpf_features.has_uprobe_links():
        raise KwatchError(
            "this kernel attaches a program to one place at a time (before Linux 6.6, commit "
            "89ae89f53d20)",
            "nothing to do: kwatch uses perf uprobes instead",
        )


def _emulation() -> Feature:
    """The facts by which kwatch chooses the instruction to probe."""
    name, purpose = "emulated instructions", "probes without single-stepping"
    try:
        known = INSTRUCTIONS.get(platform.machine(), ())
        emulated = [instruction for instruction in known if emulates(instruction)]
    except (KwatchError, OSError) as error:
        return _broken(name, False, purpose, error)
    stepped = [instruction for instruction in known if instruction not in emulated]
    found = f"emulated: {', '.join(emulated)}; single-stepped: {', '.join(stepped)}"
    return Feature(name, True, False, purpose, found)


def _tracepoints(programs: Programs) -> None:
    through_perf = programs.attach_methods.perf_tracepoints
    for name in TRACEPOINTS.keys() & programs.programs.keys():
        os.close(tracepoints.attach(TRACEPOINTS[name], programs.programs[name], through_perf))


def _recorded_calls() -> None:
    config = ProgramConfig(heap=False, heap_stacks=False, record=True, area=2 * MAX_CAPTURE)
    with closing(Loader(config)) as loader:
        programs = loader.result()
    try:
        _tracepoints(programs)
    finally:
        programs.close()


def _io_uring() -> None:
    if not io_uring.is_traceable():
        raise KwatchError(
            "this kernel has no tracepoints for them",
            "nothing to do: their submission with io_uring_enter is seen",
        )


def _found_tracepoints(programs: Programs) -> Feature:
    found = _tried("tracepoints", True, "system calls", lambda: _tracepoints(programs))
    if not found.works or not programs.attach_methods.perf_tracepoints:
        return found
    reason = "through perf events, because programs of raw tracepoints can be preempted here"
    if not may_be_unpreempted():
        reason += "; events may be missed: kwatch needs CAP_SYS_NICE to become real-time"
    return replace(found, reason=reason)


def _uprobes(programs: Programs) -> None:
    """Probes this process for a moment. It is not a target, so the program does nothing."""
    path, offset = _own_code()
    if programs.attach_methods.uprobe_links:
        program = programs.programs["heap_entry"]
        os.close(bpf.link_uprobes(program, path, [offset], [0], os.getpid(), 0))
    else:
        event = perf.open_uprobe(path, offset, os.getpid(), False)
        os.close(perf.with_program(event, programs.programs["heap_malloc"]))


def _own_code() -> tuple[str, int]:
    from kwatch.elf.elf import Elf
    from kwatch.procfs.mappings import file_of, read_mappings

    for mapping in read_mappings(os.getpid()):
        path = file_of(os.getpid(), mapping) if mapping.executable else ""
        if path:
            with Elf.open(path) as elf:
                functions = elf.functions(["malloc"])
            if functions:
                return mapping.path, functions["malloc"].offset
    raise KwatchError("no malloc was found in this process", "please report it")


#: Name, needed, purpose, check: the capabilities that need no loaded programs.
_STANDALONE: tuple[tuple[str, bool, str, Check], ...] = (
    ("architecture", True, "everything", _architecture),
    *((name, True, "everything", require) for name, require in privileges.REQUIRED.items()),
    ("no lockdown", True, "everything", _lockdown),
    ("bcc", True, "compiling the BPF programs", _bcc),
    ("kernel types (BTF)", True, "offsets in kernel structures", _btf),
    ("BPF ring buffers", True, "receiving events", _ring_buffer),
    ("perf rings", True, "receiving forks, execs, exits and mappings", _perf_ring),
    ("libdw", True, "function names and source lines", _libdw),
    ("userfaultfd", False, "scanning the memory of a process that has ended", _userfaultfd),
    ("reader priority", False, "fewer lost events on a busy machine", _priority),
    ("mapped rings", False, "cheaper events", _mapped_rings),
    ("young blocks", False, "no events for blocks that are freed soon", _young_blocks),
    ("process connector", False, "--comm for processes that start later", _connector),
)


def features() -> Iterator[Feature]:
    """Every capability, in the order in which kwatch needs it."""
    for name, needed, purpose, check in _STANDALONE:
        found = _tried(name, needed, purpose, check)
        yield found
        if check is require_mounts and not found.works:
            yield from _unchecked("/proc and /sys are needed", "mount them")
            return
    if not is_privileged():
        yield from _unchecked("root is needed", "run `kwatch doctor` as root")
        return
    links = _tried("uprobe links", False, _WITH_LINKS, _uprobe_links)
    with_links = list(_program_features(links=True, needed=False)) if links.works else [links]
    yield from with_links
    yield from _program_features(links=False, needed=not with_links[-1].works)
    yield _tried("recorded calls", False, "kwatch trace and record", _recorded_calls)
    yield _tried("requests of io_uring", False, "kwatch trace and record", _io_uring)
    yield _watchpoints()
    yield _emulation()


def _watchpoints() -> Feature:
    """Also what they cost here."""
    from kwatch.watchpoints.trial import try_watchpoints

    purpose = "kwatch watchpoint"
    try:
        trial = try_watchpoints()
    except (KwatchError, OSError) as error:
        return _broken("watchpoints", False, purpose, error)
    cost = f"a copy of 30 KB takes {trial.slowdown:.1f} times as long while one is set for data"
    return Feature("watchpoints", True, False, purpose, f"{trial.free} are free; {cost}")


def _unchecked(reason: str, cure: str) -> Iterator[Feature]:
    for name in ("uprobe links", "perf uprobes", "tracepoints", "recorded calls", "watchpoints"):
        yield Feature(
            name, False, True, "system calls and the heap", f"not checked: {reason}", cure
        )


def _program_features(links: bool, needed: bool) -> Iterator[Feature]:
    """The programs built for uprobe links, or those for kernels without them."""
    kind = "uprobe links" if links else "perf uprobes"
    purpose = _WITH_LINKS if links else "heap probes on kernels without links"
    try:
        methods = AttachMethods(
            links,
            tracepoints.are_preemptible(),
            atomics=bpf_features.has_compare_and_exchange(),
            young_blocks=bpf_features.keeps_young_blocks(),
        )
        with closing(Loader(ProgramConfig(heap=True, call_stacks=True), methods)) as loader:
            programs = loader.result()
    except (KwatchError, OSError) as error:
        yield _broken(kind, needed, purpose, error)
        return
    try:
        yield _tried(kind, needed, purpose, lambda: _uprobes(programs))
        if not links:
            yield _found_tracepoints(programs)
    finally:
        programs.close()


def _tried(name: str, needed: bool, purpose: str, check: Check) -> Feature:
    try:
        check()
    except (KwatchError, ImportError, OSError) as error:
        return _broken(name, needed, purpose, error)
    return Feature(name, True, needed, purpose)


def _broken(
    name: str, needed: bool, purpose: str, error: KwatchError | ImportError | OSError
) -> Feature:
    reason, cure = str(error), "install kwatch's dependencies: pip install kwatch"
    if isinstance(error, KwatchError):
        cure = error.hint
    elif isinstance(error, OSError):
        reason, cure = error.strerror or reason, cure_of(error)
    return Feature(name, False, needed, purpose, reason, cure)


def diagnosed(error: Refused) -> KwatchError:
    """The error with the first problem that `kwatch doctor` finds, and its cure."""
    broken = next((each for each in features() if each.needed and not each.works), None)
    if broken is None:
        return error
    known = broken.reason in str(error)
    cause = "" if known else f"{broken.name}: {broken.reason}\n  "
    return KwatchError(str(error), cause + broken.cure)
