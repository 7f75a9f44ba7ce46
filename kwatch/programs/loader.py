# SPDX-License-Identifier: Apache-2.0
"""Compiles and loads the BPF programs in a child process that passes their descriptors back.

Compiled programs are cached (kwatch/programs/object_cache.py). Without a cached copy, bcc maps
clang and LLVM, more than 100 MB; that memory is freed when the child ends. The parent continues to
start meanwhile.
"""

from __future__ import annotations

import ctypes
import errno
import importlib.util
import json
import os
import platform
import re
import signal
import socket
import struct
import sys
from array import array
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from typing import Any

from kwatch.errors import CURE_OF_TOO_MANY_FILES, KwatchError, Refused
from kwatch.kernel import bpf, bpf_features
from kwatch.kernel.privileges import refused
from kwatch.kernel.syscall_work import return_probes_call
from kwatch.programs import io_uring, tracepoints
from kwatch.programs.object_cache import Compiled, cache_key, captured, find, keep
from kwatch.programs.source import AttachMethods, ProgramConfig, shim_directory, source_text
from kwatch.programs.sources import TAIL_CALLED, TAKE_YOUNG, wanted_sources
from kwatch.system import signals
from kwatch.system.child import die_with_parent, reap
from kwatch.wire.maps import AllocSignature

_MAX_MESSAGE = 1 << 16
_MAX_DESCRIPTORS = 128

_HOLDS = re.compile(r'^BPF_ARRAY_OF_MAPS\((\w+), "(\w+)"', re.MULTILINE)
Answer = dict[str, Any]

BCC_HINT = (
    "install the distribution's package (Debian, Ubuntu: python3-bpfcc; Fedora: python3-bcc; "
    "Arch: python-bcc) and run kwatch with a Python that sees it (python3 -m venv "
    "--system-site-packages); the package named bcc on PyPI is something else"
)


@dataclass(frozen=True, slots=True)
class Programs:
    """The loaded programs by name and the maps by name.

    With uprobe links there is one entry program for all signatures, otherwise one for each.
    """

    maps: dict[str, bpf.Map]
    programs: dict[str, int]
    attach_methods: AttachMethods

    def close(self) -> None:
        for fd in (*self.programs.values(), *(map_.fd for map_ in self.maps.values())):
            os.close(fd)


def attach_methods_here(perf_uprobes: bool = False) -> AttachMethods:
    """The best methods that this kernel supports. Raises OSError or KwatchError.

    `perf_uprobes`: without uprobe links.
    """
    links = not perf_uprobes and bpf_features.has_uprobe_links()
    cookies = not links and bpf_features.has_event_cookies()
    sessions = links and return_probes_call() and bpf_features.has_uprobe_sessions()
    atomics = bpf_features.has_compare_and_exchange()
    young = bpf_features.keeps_young_blocks()
    return AttachMethods(links, tracepoints.are_preemptible(), cookies, sessions, atomics, young)


class Loader:
    """A load in progress. The constructor starts to compile; readable when `result()` is ready.

    `methods`: None for the best that the kernel supports.
    """

    def __init__(self, config: ProgramConfig, methods: AttachMethods | None = None) -> None:
        self._errors = os.fdopen(os.memfd_create("compiler"), "w+b")
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        parent = os.getpid()
        self._child: int | None = signals.fork(signal.SIG_IGN)
        if self._child == 0:
            die_with_parent(parent)
            self._socket.close()
            os.dup2(self._errors.fileno(), 2)
            os.dup2(self._errors.fileno(), 1)
            _child_main(theirs, config, methods)
        theirs.close()

    def fileno(self) -> int:
        """Readable when `result` does not have to wait."""
        return self._socket.fileno()

    def result(self) -> Programs:
        """Waits for the programs.

        Raises Refused if bcc is missing, or if the compiler or the kernel rejects a program.
        """
        message, descriptors, _, _ = socket.recv_fds(self._socket, _MAX_MESSAGE, _MAX_DESCRIPTORS)
        self._errors.seek(0)
        output = self._errors.read().decode(errors="replace").strip()
        self.close()
        if not message:
            raise KwatchError(
                "the BPF programs could not be compiled: the compiler died",
                output
                or "set LD_PRELOAD only for the command: kwatch -- env LD_PRELOAD=... COMMAND",
            )
        answer = json.loads(message)
        if "error" in answer:
            too_many = os.strerror(errno.EMFILE)  # clang prints the same text
            if too_many in output:
                raise KwatchError(f"bcc could not compile: {too_many}", CURE_OF_TOO_MANY_FILES)
            detail = f"\n{output}" if output else ""
            raise Refused(answer["error"] + detail, answer["hint"])
        return _programs(answer, list(descriptors))

    def close(self) -> None:
        """Kills the child, whether it has answered or not."""
        if self._child is not None:
            os.kill(self._child, signal.SIGKILL)
            reap(self._child)
            self._child = None
        self._socket.close()
        self._errors.close()


def _programs(answer: Answer, descriptors: list[int]) -> Programs:
    methods = AttachMethods(*answer["methods"])
    unpreempted = methods.perf_tracepoints
    maps = {
        name: bpf.Map(descriptors.pop(0), key, value, entries, unpreempted)
        for name, (key, value, entries) in answer["maps"].items()
    }
    programs = {name: descriptors.pop(0) for name in answer["programs"]}
    for name in TAIL_CALLED.keys() & programs.keys():
        maps[TAIL_CALLED[name]].set(bytes(4), struct.pack("I", programs[name]))
    return Programs(maps, programs, methods)


def _child_main(sock: socket.socket, config: ProgramConfig, methods: AttachMethods | None) -> None:
    try:
        answer, descriptors = _load(config, methods or _methods_for(config))
    except KwatchError as error:
        answer, descriptors = _failed(error), []
    except OSError as error:
        answer, descriptors = _failed(refused("the BPF programs cannot be loaded", error)), []
    except BaseException as error:  # the parent must always get an answer
        answer = {"error": f"the BPF programs could not be loaded: {error!r}", "hint": ""}
        descriptors = []
    try:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))]
        sock.sendmsg([json.dumps(answer).encode()], ancillary if descriptors else [])
    finally:
        os._exit(0)


def _methods_for(config: ProgramConfig) -> AttachMethods:
    methods = attach_methods_here(config.perf_uprobes)
    return replace(methods, young_blocks=False) if config.every_block else methods


def _failed(error: KwatchError) -> Answer:
    return {"error": str(error), "hint": error.hint}


def _load(config: ProgramConfig, methods: AttachMethods) -> tuple[Answer, list[int]]:
    if config.record and not methods.atomics:
        raise KwatchError(
            "calls cannot be recorded: BPF programs of this kernel have no compare-and-exchange",
            "that takes Linux 5.12, on arm64 5.18; kwatch --no-heap counts calls on older ones",
        )
    objects = compiled(config, methods)
    made = objects.make_maps()
    programs = _program_table(config, methods)
    maps = {name: objects.maps[name].shape[1:4] for name in made}
    with ThreadPoolExecutor() as pool:  # most of the time, the kernel verifies programs
        loading = [
            pool.submit(_load_one, name, objects.code(name, made), *kinds)
            for name, kinds in programs.items()
        ]
        loaded = [future.result() for future in loading]
    answer = {"maps": maps, "programs": list(programs), "methods": astuple(methods)}
    return answer, [*made.values(), *loaded]


def compiled(config: ProgramConfig, methods: AttachMethods) -> Compiled:
    """The compiled programs, from the cache if possible."""
    text = source_text(filter_code=config.filter_code)
    package = importlib.util.find_spec("bcc")
    bcc = package.origin if package is not None and package.origin else ""
    stamp = str(os.stat(bcc).st_mtime_ns) if bcc else ""
    key = cache_key([text, *config.macros({}, methods), bcc, stamp])
    found = find(key)
    if found is None:
        found = _compile(config, methods, text)
        keep(key, found)
    return found


def _compile(config: ProgramConfig, methods: AttachMethods, text: str) -> Compiled:
    from kwatch.kernel.btf import KernelTypes

    os.environ["BCC_KERNEL_SOURCE"] = str(shim_directory())
    try:
        from bcc import BPF
        from bcc.libbcc import lib
    except ImportError as error:
        raise KwatchError(f"the Python bindings of bcc are missing ({error})", BCC_HINT) from error
    types = KernelTypes()
    cast = types.function("bpf_rdonly_cast")
    of_kernel = {
        **types.offsets(),
        "SESSION_IS_RETURN": bpf.KERNEL_FUNCTIONS + types.function("bpf_session_is_return"),
        "TASK_PT_REGS": int(types.function("bpf_task_pt_regs") > 0),
        "PT_REGS_SIZE": types.size("pt_regs"),
        "RDONLY_CAST": bpf.KERNEL_FUNCTIONS + cast if cast else 0,
        "TASK_TYPE": types.struct("task_struct"),
        "REGISTERS_TYPE": types.struct("pt_regs"),
    }
    macros = config.macros(of_kernel, methods)
    if config.io_uring:
        macros += [f"-D{name}={value}" for name, value in io_uring.macros().items()]
    try:
        bcc = BPF(text=text, cflags=macros)
    except Exception as error:  # bcc raises nothing more precise
        raise KwatchError(
            f"bcc could not compile or load the BPF programs: {error}",
            f"run `kwatch doctor`; the kernel is {platform.release()}",
        ) from error
    lib.bpf_table_name.restype = ctypes.c_char_p
    tables = range(lib.bpf_num_tables(bcc.module))
    maps = {
        lib.bpf_table_name(bcc.module, table).decode(): lib.bpf_table_fd_id(bcc.module, table)
        for table in tables
    }
    names = _program_table(config, methods)
    programs = {name: bcc.dump_func(name.encode()) for name in names}
    holds = {outer: inner for outer, inner in _HOLDS.findall(text) if inner in maps}
    return captured(maps, holds, programs)


def _program_table(config: ProgramConfig, methods: AttachMethods) -> dict[str, tuple[int, int]]:
    """Type and attach type by program. Programs that call each other must have the same."""
    of_tracepoints = tracepoints.program_type(methods.perf_tracepoints), 0
    of_entries = bpf.PROG_TYPE_KPROBE, bpf.TRACE_UPROBE_MULTI if methods.uprobe_links else 0
    of_returns = bpf.PROG_TYPE_KPROBE, bpf.TRACE_UPROBE_SESSION
    of_uprobes = of_returns if methods.uprobe_sessions else of_entries
    table: dict[str, tuple[int, int]] = {}
    for source in wanted_sources(config):
        names = [*source.tracepoints, *source.uprobes, *source.events, *source.tail_calls]
        of_source = of_uprobes if source.through_uprobes else of_tracepoints
        if source.events:
            of_source = bpf.PROG_TYPE_PERF_EVENT, 0
        table |= dict.fromkeys(names, of_source)
        through_perf = [name for name, each in source.tracepoints.items() if each.through_perf]
        table |= dict.fromkeys(through_perf, (bpf.PROG_TYPE_TRACEPOINT, 0))
        table |= dict.fromkeys(source.entry_calls, of_entries)
    if config.heap and config.keeps_young(methods):
        table[TAKE_YOUNG] = bpf.PROG_TYPE_RAW_TRACEPOINT, 0
    entries = _heap_entries(methods) if config.heap else []
    return table | dict.fromkeys(entries, of_entries)


def _heap_entries(methods: AttachMethods) -> list[str]:
    """One program for all signatures if the kernel has cookies, otherwise one for each."""
    if methods.cookies:
        return ["heap_entry"]
    return [f"heap_{signature.name.lower()}" for signature in AllocSignature]


def _load_one(name: str, code: bytes, kind: int, attach_type: int) -> int:
    try:
        return bpf.load_program(name, code, kind, attach_type)
    except OSError as error:
        raise refused(f"the kernel refused the BPF program {name}", error) from error
