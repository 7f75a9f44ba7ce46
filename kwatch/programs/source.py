# SPDX-License-Identifier: Apache-2.0
"""The BPF sources as one text, and the macros that carry settings into them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from kwatch.kernel.cpus import possible_cpus
from kwatch.programs.sources import wanted_sources
from kwatch.syscalls.names import IPC_CALLS, MAX_SOCKETCALL
from kwatch.wire.allocators import FIRST_FUNCTIONS

_INCLUDE = re.compile(r'^#include "([^"]+)"$', re.MULTILINE)
_FILTER_CODE = "filter_code.h"
_UNLIMITED = (1 << 64) - 1


def source_directory() -> Path:
    """The BPF sources: inside an installed package, or next to it in a checkout."""
    package = Path(str(files("kwatch")))
    installed = package / "bpf"
    return installed if installed.is_dir() else package.parent / "bpf"


def shim_directory() -> Path:
    """A tree that replaces the kernel headers; bcc takes it as BCC_KERNEL_SOURCE."""
    return source_directory() / "shim"


def source_text(name: str = "kwatch.bpf.c", filter_code: str = "") -> str:
    """The translation unit, with each quoted include replaced by its text, once.

    `filter_code`: the C of a filter (kwatch.syscalls.filter.kernel_code), included like a file.
    """
    directory = source_directory()
    included: set[str] = set()

    def text_of(file: str) -> str:
        if file in included:
            return ""
        included.add(file)
        text = filter_code if file == _FILTER_CODE else (directory / file).read_text()
        return f'#line 1 "{file}"\n' + _INCLUDE.sub(lambda match: text_of(match[1]), text)

    return text_of(name)


@dataclass(frozen=True, slots=True)
class AttachMethods:
    """How programs are attached.

    `uprobe_links`: uprobes through links, many places at once, with cookies (Linux 6.6).
    `perf_tracepoints`: tracepoints through perf events. `event_cookies`: perf uprobes have cookies.
    `uprobe_sessions`: links whose programs may leave a return alone; only where return probes make
    system calls of their own. `atomics`: programs have compare-and-exchange, with which they claim
    slots and write mapped rings. `young_blocks`: blocks that are freed soon have no events; needs
    `atomics`.
    """

    uprobe_links: bool
    perf_tracepoints: bool
    event_cookies: bool = False
    uprobe_sessions: bool = False
    atomics: bool = False
    young_blocks: bool = False

    @property
    def cookies(self) -> bool:
        """Whether one program serves the entries of all functions."""
        return self.uprobe_links or self.event_cookies


@dataclass(frozen=True, slots=True)
class ProgramConfig:
    """The settings of the BPF programs. `heap_stacks` needs `heap`.

    `call_sums`: system calls are summed up in the kernel; not with `call_stacks`. `record`: each
    system call is recorded with its arguments; `area`: bytes of a CPU's area for what they point
    to, a power of two; `filter_code`: drops some of them, see `source_text`. `watch`: hits of
    watchpoints are recorded. `every_block`: also blocks that are freed soon have events.

    `perf_uprobes`: attach to the heap through perf events, even where the kernel has links.
    """

    heap: bool
    heap_stacks: bool = True
    call_stacks: bool = False
    call_sums: bool = False
    record: bool = False
    area: int = 0
    filter_code: str = ""
    watch: bool = False
    every_block: bool = False
    perf_uprobes: bool = False
    system_wide: bool = False
    comm_patterns: int = 0
    follow: bool = False
    min_size: int = 0
    max_size: int = _UNLIMITED

    def __post_init__(self) -> None:
        if self.heap_stacks and not self.heap:  # clang would crash
            raise ValueError("heap_stacks needs heap")

    @property
    def stacks(self) -> bool:
        """Whether any event has a stack."""
        return self.heap_stacks or self.call_stacks or self.watch

    def macros(self, offsets: dict[str, int], methods: AttachMethods) -> list[str]:
        """The only place where settings become macros."""
        major, minor = (int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
        values: dict[str, int] = {
            "LINUX_VERSION_CODE": major << 16 | minor << 8,
            "RING_CPUS": possible_cpus(),
            "SYSTEM_WIDE": int(self.system_wide),
            "COMM_PATTERNS": self.comm_patterns,
            "FOLLOW": int(self.follow),
            "MIN_SIZE": self.min_size,
            "MAX_SIZE": self.max_size,
            "AREA_SIZE": self.area,
            "MAX_SOCKETCALL": MAX_SOCKETCALL,
            "IPC_CALLS": IPC_CALLS,
            **{f"FIRST_{signature.name}": index for signature, index in FIRST_FUNCTIONS.items()},
            **offsets,
        }
        flags = [f"-D{name}={value}ULL" for name, value in values.items()]
        if os.uname().machine == "aarch64":
            flags.append(f"-DPAGE_SIZE={os.sysconf('SC_PAGESIZE')}UL")
        flags += ["-DHEAP_COOKIE"] * methods.cookies
        flags += ["-DUPROBE_SESSIONS"] * methods.uprobe_sessions
        flags += ["-DUPROBE_LINKS"] * methods.uprobe_links
        flags += ["-DSLOT_TABLE", "-DMAPPED_RINGS"] * methods.atomics
        flags += ["-DFILTER"] * bool(self.filter_code)
        flags += ["-DYOUNG_BLOCKS"] * methods.young_blocks
        flags += ["-DPERF_TRACEPOINTS"] * methods.perf_tracepoints
        flags += [f"-D{source.macro}" for source in wanted_sources(self) if source.macro]
        return flags
