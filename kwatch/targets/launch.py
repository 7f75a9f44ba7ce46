# SPDX-License-Identifier: Apache-2.0
"""Launches a command that waits before its exec until kwatch is attached."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from functools import partial

from kwatch.errors import KwatchError
from kwatch.system import signals
from kwatch.system.child import die_with_parent, outlive_parent
from kwatch.targets.exec_stop import ExecStop

_MAX_SCRIPTS = 4  # interpreters that are scripts themselves; the kernel's own limit
_LIST_TIMEOUT_S = 20
_ELF_32 = b"\x7fELF\x01"
_OWN_LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)  # before kwatch raises it for itself


class Launched:
    """A child that waits to run a command. It stays in the process group, so Ctrl-C reaches it."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self.path = resolve(command[0])
        self._status: int | None = None
        self._waits = True
        gate_read, self._gate = os.pipe()
        self._report, report_write = os.pipe()
        kwatch = os.getpid()
        self.pid = signals.fork(signal.SIG_DFL)
        if self.pid == 0:
            die_with_parent(kwatch)
            _run(command, self.path, gate_read, report_write)
        os.close(gate_read)
        os.close(report_write)

    def release(self, at_first: Callable[[], None] | None = None) -> None:
        """Lets the command run; raises KwatchError if its exec fails.

        `at_first` is called after the exec, before the program's first instruction. It is not
        called if the child may not be stopped there, because another program traces it.
        """
        stop = _exec_stop(self.pid) if at_first is not None else None
        try:
            os.write(self._gate, b"x")
        except BrokenPipeError as error:
            raise KwatchError("the launched child died before its exec", "try again") from error
        self._waits = False
        os.close(self._gate)
        is_stopped = stop is not None and stop.wait()
        with open(self._report, "rb") as report:
            reason = report.read().decode()
        if reason:
            self.wait()
            raise KwatchError(f"{self.path} cannot be run: {reason}", "check the command after --")
        if stop is not None and at_first is not None and is_stopped:
            try:
                at_first()
            finally:
                stop.release()

    def has_ended(self) -> bool:
        """Whether the command has ended; it stays a zombie until `wait`."""
        if self._status is not None:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait(self) -> int:
        """Waits for the end; returns the exit status as a shell does: 128 + N for signal N."""
        if self._status is None:
            code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self._status = code if code >= 0 else 128 - code
        return self._status

    def abandon(self) -> None:
        """Kills a command that has not been released; one that has continues."""
        if not self._waits:
            return
        self._waits = False
        os.kill(self.pid, signal.SIGKILL)
        self.wait()
        os.close(self._gate)
        os.close(self._report)


def _exec_stop(pid: int) -> ExecStop | None:
    try:
        return ExecStop(pid)
    except KwatchError:
        return None


def _run(command: tuple[str, ...], path: str, gate: int, report: int) -> None:
    """Runs in the child. The command inherits nothing of kwatch but the standard streams."""
    try:
        signals.restore_given()
        resource.setrlimit(resource.RLIMIT_NOFILE, _OWN_LIMIT)
        if os.read(gate, 1):
            outlive_parent()
            os.execv(path, command)
    except OSError as error:
        os.write(report, (error.strerror or str(error)).encode())
    finally:
        os._exit(127)


def resolve(name: str) -> str:
    """The file that a shell would run for this name. Raises KwatchError."""
    path = shutil.which(name)
    if path is not None:
        return path
    if os.path.isdir(name):
        why = "it is a directory"
    elif "/" in name and os.path.exists(name):
        why = "it is not executable"
    else:
        why = "no such file" if "/" in name else "it is not in PATH"
    raise KwatchError(f"{name or repr(name)} cannot be run: {why}", "check the command after --")


def is_32_bit(path: str) -> bool:
    """Whether the program at `path` is 32-bit."""
    try:
        with open(_interpreter_of_script(path), "rb") as file:
            return file.read(len(_ELF_32)) == _ELF_32
    except OSError:
        return False


def program_files(path: str) -> list[str]:
    """The files that a run of `path` will map: the program and its libraries.

    The dynamic loader itself lists them (--list), with regard to LD_PRELOAD, rpaths and its cache.
    Empty if the program cannot be run: its exec will say why.
    """
    from kwatch.elf.elf import Elf, ElfError

    try:
        program = os.path.realpath(_interpreter_of_script(path))  # to which $ORIGIN is relative
        with Elf.open(program) as elf:
            loader = elf.interpreter
    except (ElfError, OSError):
        return []
    libraries = _libraries(loader, program) if loader else []
    return [program, *map(os.path.realpath, libraries)]


def _interpreter_of_script(path: str) -> str:
    for _ in range(_MAX_SCRIPTS):
        with open(path, "rb") as file:
            first = file.readline(256)
        words = first[2:].split()
        if not first.startswith(b"#!") or not words:
            break
        path = os.fsdecode(words[0])
        if os.path.basename(path) == "env" and len(words) > 1:
            path = shutil.which(os.fsdecode(words[1])) or path
    return path


def _libraries(loader: str, program: str) -> list[str]:
    try:
        listing = subprocess.run(
            [loader, "--list", program],
            capture_output=True,
            timeout=_LIST_TIMEOUT_S,
            check=False,
            preexec_fn=partial(die_with_parent, os.getpid()),
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    words = [line.split(b" (0x")[0].rpartition(b"=> ")[2].strip() for line in listing.splitlines()]
    paths = [os.fsdecode(word) for word in words if word.startswith(b"/")]
    return [path for path in paths if os.path.exists(path)]
