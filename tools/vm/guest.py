# SPDX-License-Identifier: Apache-2.0
"""Boots a guest and supervises it until its command or the guest itself ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event

from kwatch.system.child import die_with_parent
from vm.cache import Guest

BOOT_LIMIT = 90.0  # seconds until the guest's first sign of life
SILENCE_LIMIT = 90.0  # ... and between two signs of life
_TAIL = 100  # lines of the console in an error message
_POLL = 0.1
_MEMORY = "2G"
# With KASLR, arm64 kernels separate their page tables. In an emulator each system call then drops
# all translated code and takes 80 us.
_KERNEL_ARGUMENTS = "panic=-1 loglevel=4 mitigations=off nokaslr kpti=off"
# The CPUs of a guest share one thread of the emulator. With one thread per CPU, two guests on two
# CPUs take twice as long: a CPU spins for a lock whose holder is not running.
_CPUS = 2


@dataclass(frozen=True, slots=True)
class Ending:
    """How a guest ended. `status`: the command's exit status; None if the command did not end.

    `trouble`: why it did not, with the end of the console. `cpu_seconds`: CPU time of the emulator.
    """

    status: int | None
    seconds: float
    cpu_seconds: float = 0.0
    trouble: str = ""


def emulator(guest: Guest, checkout: Path, work: Path) -> list[str]:
    """The command that boots a guest."""
    architecture = guest.kernel.architecture
    command = [
        *architecture.emulator,
        *("-accel", "tcg,thread=single", "-smp", str(_CPUS), "-m", _MEMORY),
        *("-nodefaults", "-no-reboot", "-display", "none"),
        *("-serial", f"file:{work}/console"),
        *("-kernel", str(guest.image), "-initrd", str(guest.initrd)),
        *("-append", f"console={architecture.console} {_KERNEL_ARGUMENTS}"),
    ]
    shares = {
        "root": (guest.root, True),
        "kwatch": (checkout, True),
        "site": (guest.site, True),
        "pycache": (guest.pycache, False),
        "cache": (guest.own_cache, False),
        "work": (work, False),
    }
    for tag, (path, read_only) in shares.items():
        options = f"local,path={path},mount_tag={tag},security_model=none,multidevs=remap"
        command += ["-virtfs", options + ",readonly=on" * read_only]
    return command


def run(
    command: list[str], work: Path, attend: Callable[[], None], limit: float, stop: Event
) -> Ending:
    """Boots a guest that runs /work/command, for at most `limit` seconds or until `stop` is set.

    Calls `attend` several times a second.
    """
    started = time.monotonic()
    with open(work / "emulator", "w") as messages:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=messages,
            stderr=messages,
            start_new_session=True,
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
    try:
        trouble = _watch(process, work, limit, attend, stop)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        _, process.returncode, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    cpu_seconds = usage.ru_utime + usage.ru_stime
    status = _read(work / "status").strip()
    if status:
        return Ending(int(status), seconds, cpu_seconds)
    return Ending(None, seconds, cpu_seconds, f"{trouble}\n{_tail(work)}")


def _watch(
    process: subprocess.Popen[bytes],
    work: Path,
    limit: float,
    attend: Callable[[], None],
    stop: Event,
) -> str:
    """Waits until the emulator has ended or must be ended; returns why."""
    started = last = time.monotonic()
    signs = 0
    while not _has_ended(process.pid):
        attend()
        now = time.monotonic()
        if (count := _size(work / "alive")) != signs:
            signs, last = count, now
        if not signs and now - started > BOOT_LIMIT:
            return f"the guest did not boot within {BOOT_LIMIT:.0f} s"
        if signs and now - last > SILENCE_LIMIT:
            return f"the guest gave no sign of life for {SILENCE_LIMIT:.0f} s"
        if now - started > limit:
            return f"the guest was not done within {limit:.0f} s"
        if stop.wait(_POLL):
            return "given up"
    return "the guest went down" if signs else "the guest ended before it had booted"


def _has_ended(pid: int) -> bool:
    """Whether the process has ended; it is not reaped yet."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _tail(work: Path) -> str:
    """The last lines of the console and of the emulator."""
    lines = (_read(work / "console") + _read(work / "emulator")).splitlines()
    return "\n".join(f"    {line.rstrip()}" for line in lines[-_TAIL:])
