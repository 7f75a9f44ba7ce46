# SPDX-License-Identifier: Apache-2.0
"""Why a process must not be probed: what a breakpoint or a return probe in it would end.

Nothing here depends on an allocator: a process is safe to probe, or it is not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence

from kwatch.errors import KwatchError
from kwatch.kernel import syscall_work
from kwatch.procfs.mappings import Mapping

_QEMU = (
    r"qemu-(aarch64|alpha|arm|cris|hexagon|hppa|i386|loongarch64|m68k|microblaze|mips|nios2|or1k|"
    r"ppc|riscv|s390x|sh4|sparc|x86_64|xtensa)\w*(-static)?"
)

_TAKES_CALL = "which takes the system call of a return probe, and the program would end"
DISPATCHES = f"it uses Syscall User Dispatch, {_TAKES_CALL}"

#: Programs that run others from a translated copy of their code, by the end of the path of their
#: executable or of a library that they map into the process. Common words are not enough.
_TRANSLATORS = {
    "valgrind": re.compile(
        r"vgpreload_\w+-\w+-linux\.so|valgrind/[a-z-]+-(amd64|x86|arm64|arm)-linux"
    ),
    "qemu": re.compile(_QEMU),
    "rr": re.compile(r"librrpreload(_32)?\.so|librraudit(_32)?\.so"),
    "DynamoRIO": re.compile(r"drrun|libdynamorio\.so|libdrpreload\.so"),
    "Pin": re.compile(r"pinbin|libpin3?(dwarf|vm)\.so"),
    "Frida": re.compile(r"frida-agent(-\d+)?\.so|libfrida-gadget.*\.so"),
    "Dyninst": re.compile(r"libdyninstAPI_RT\.so[.\d]*"),
    "FEX": re.compile(r"FEX(Interpreter|Loader)?"),
    "box64": re.compile(r"box(64|86)"),
    "Rosetta": re.compile(r"RosettaLinux/rosetta"),
}


#: What the death of a traced process by a signal can have to do with its probes.
DEATHS = {
    "SIGTRAP": "a program that copies or translates its own code runs into kwatch's breakpoints, "
    "also after kwatch has ended",
    "SIGILL": "a program that changes stacks inside its allocator loses the returns that kwatch "
    "catches",
}


def copied_code(mappings: Sequence[Mapping]) -> list[str]:
    """Files whose code the process runs a copy of: executable memory between their mappings.

    Breakpoints that were in the code are in the copy, and nobody removes them there.
    """
    spans: dict[str, tuple[int, int]] = {}
    for mapping in mappings:
        if mapping.inode and not mapping.is_generated:
            start, _ = spans.get(mapping.path, (mapping.start, 0))
            spans[mapping.path] = start, mapping.end
    found = dict.fromkeys(
        beside.path
        for before, copy, after in zip(mappings, mappings[1:], mappings[2:], strict=False)
        if copy.executable and copy.is_generated
        for beside in (before, after)
        if beside.path in spans and copy.start in range(*spans[beside.path])
        if copy.start == before.end or copy.end == after.start
    )
    return list(found)


def breakpoint_hazard(pid: int, mapped: Iterable[str]) -> str:
    """Why no breakpoint may be set in a process; empty if it may. `mapped`: paths of its files."""
    paths = [path.rsplit("/", 2)[-2:] for path in (_executable(pid), *mapped)]
    names = {name for parts in paths for name in (parts[-1], "/".join(parts))}
    for translator, pattern in _TRANSLATORS.items():
        if any(map(pattern.fullmatch, names)):
            return (
                f"{translator} runs it from a translated copy of its code, and a probe in that "
                "copy would end it"
            )
    return ""


def return_hazard(pid: int) -> str:
    """Why no return probe may be set in a process; empty if it may.

    Probes of instructions make no system call. Raises KwatchError.
    """
    try:
        work = syscall_work.work_of(pid)
    except OSError as error:
        reason = f"cannot read how the kernel handles the system calls of process {pid}"
        raise KwatchError(f"{reason}: {error.strerror}", "use --no-heap") from error
    if work & syscall_work.DISPATCHED:
        return DISPATCHES
    if work & syscall_work.EMULATED:
        return f"its tracer emulates its system calls (PTRACE_SYSEMU), {_TAKES_CALL}"
    return ""


def _executable(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""  # it has ended
