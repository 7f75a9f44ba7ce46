# SPDX-License-Identifier: Apache-2.0
"""The peers that a process is measured under: nothing, empty probes, kwatch and other tools.

Each is a context manager that takes a pid and yields when everything is attached.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.session import Session

from bench import processes
from bench.empty import empty_probes, empty_tracepoints, stackid_probes
from bench.workload import pin
from kwatch.programs.source import shim_directory

_PTRACE = Path(__file__).with_name("ptrace.h")
_VERSION_CODE = """
#ifndef LINUX_VERSION_CODE
#define LINUX_VERSION_CODE KERNEL_VERSION({}, {}, 0)
#endif
"""

Attach = Callable[[int], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class Peer:
    """`command`: the tool that must be installed, if any."""

    name: str
    attach: Attach
    command: str = ""

    @property
    def is_missing(self) -> bool:
        return bool(self.command) and shutil.which(self.command) is None


@contextmanager
def kwatch(*options: str | int, tree: Path | None = None) -> Iterator[Session]:
    """Runs kwatch as a user does, from its `attached` line to its end. It writes JSON.

    `tree`: of another checkout.
    """
    session = Session("--json", *options, tree=tree)
    try:
        session.attached()
        yield session
        session.stop()
    finally:
        session.kill()


@contextmanager
def _kwatch_elsewhere(pid: int) -> Iterator[None]:
    """kwatch traces another process, not the measured one."""
    other = subprocess.Popen(["sleep", "infinity"])
    try:
        with kwatch("--pid", other.pid):
            yield
    finally:
        other.kill()
        other.wait(60)


def kwatch_peer(name: str, *options: str, releases: str = "never") -> Peer:
    """`releases`: a measurement is shorter than the first window in which frees have stacks."""
    return Peer(name, lambda pid: kwatch("--pid", pid, "--releases", releases, *options))


def earlier_peers(tree: Path | None, **options: Sequence[str]) -> list[Peer]:
    """The kwatch of another checkout, if there is one, by the names that rows have for it."""
    if tree is None:
        return []
    has_releases = "--releases" in (tree / "docs/cli.md").read_text()
    common = ["--releases", "never"] if has_releases else []

    def peer(name: str, own: Sequence[str]) -> Peer:
        return Peer(name, lambda pid: kwatch("--pid", pid, *common, *own, tree=tree))

    return [peer(EARLIER[key], own) for key, own in options.items()]


#: What rows call the kwatch of an earlier commit, by what it traces.
EARLIER = {
    "calls": "kwatch --no-heap, earlier",
    "heap": "kwatch --no-syscalls, earlier",
    "bare": "kwatch --no-syscalls --no-stacks, earlier",
    "both": "kwatch, earlier",
}


@contextmanager
def _tool(
    command: Sequence[str], environment: dict[str, str], attached: Callable[[int], bool]
) -> Iterator[None]:
    """Runs another tool and interrupts it at the end. `attached` tells from its pid if it is."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )

    def ready() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"{command[0]} ended with {process.returncode}")
        return attached(process.pid)

    try:
        processes.until(ready, f"{command[0]} attached")
        yield
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):  # memleak's Python may lose an interrupt
            process.wait(10)
    finally:
        process.kill()
        process.wait(60)


def _strace(pid: int) -> AbstractContextManager[None]:
    command = ["strace", "-f", "-o", "/dev/null", "-p", str(pid)]
    return _tool(command, {}, lambda tracer: processes.tracer_of(pid) == tracer)


@contextmanager
def _strace_beside(pid: int) -> Iterator[None]:
    """Runs strace on the target's CPU: a switch on one CPU is cheaper than waking another CPU."""
    with _strace(pid):
        pin(processes.tracer_of(pid))
        yield


def _perf_trace(pid: int) -> AbstractContextManager[None]:
    command = ["perf", "trace", "-o", "/dev/null", "-p", str(pid)]
    return _tool(command, {}, _sleeps_in("poll"))


def _memleak(shim: Path) -> Attach:
    def attach(pid: int) -> AbstractContextManager[None]:
        command = ["memleak-bpfcc", "-p", str(pid), "3600"]
        return _tool(command, {"BCC_KERNEL_SOURCE": str(shim)}, _sleeps_in("nanosleep"))

    return attach


def _sleeps_in(function: str) -> Callable[[int], bool]:
    """The tool has open perf events and sleeps, so it has attached everything."""

    def attached(pid: int) -> bool:
        return processes.perf_events(pid) > 0 and processes.waits_in(pid, function)

    return attached


def memleak_shim(directory: Path) -> Path:
    """kwatch's shim for kernel headers, with the additions that memleak needs."""
    shim = directory / "memleak-shim"
    if not shim.exists():
        shutil.copytree(shim_directory(), shim)
        shutil.copy(_PTRACE, shim / "include/uapi/linux/ptrace.h")
        with (shim / "include/linux/version.h").open("a") as file:
            file.write(_VERSION_CODE.format(*os.uname().release.split(".")[:2]))
    return shim


def _syscount(pid: int) -> AbstractContextManager[None]:
    command = ["syscount-bpfcc", "-L", "-p", str(pid), "-i", "3600"]
    return _tool(command, {}, _sleeps_in("nanosleep"))


NATIVE = Peer("native", lambda pid: nullcontext())
EMPTY = Peer("empty probes", empty_probes)
STACKID = Peer("empty probes, bpf_get_stackid", stackid_probes)
TRACEPOINTS = Peer("empty tracepoints with clocks", empty_tracepoints)
SYSCOUNT = Peer("syscount -L", _syscount, "syscount-bpfcc")
BYSTANDER = Peer("kwatch on another process", _kwatch_elsewhere)
STRACE = Peer("strace -f", _strace, "strace")
STRACE_BESIDE = Peer("strace -f, on the same CPU", _strace_beside, "strace")
PERF_TRACE = Peer("perf trace", _perf_trace, "perf")


def memleak(directory: Path) -> Peer:
    return Peer("bcc memleak", _memleak(memleak_shim(directory)), "memleak-bpfcc")
