# SPDX-License-Identifier: Apache-2.0
"""Stops a child of kwatch once, after its exec and before the first instruction of the program.

PTRACE_SEIZE with PTRACE_O_TRACEEXEC: no signal is involved. If kwatch is killed meanwhile, the
kernel lets the child run (exit_ptrace() in linux kernel/ptrace.c), which a SIGSTOP would not. The
child is traced only until `release`.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from kwatch.errors import KwatchError
from kwatch.kernel.syscall import syscall

_CONT, _DETACH, _SEIZE, _LISTEN = 7, 17, 0x4206, 0x4208
_TRACE_EXEC, _EVENT_EXEC, _EVENT_STOP = 1 << 4, 4, 128
_JOB_CONTROL = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


class ExecStop:
    """Takes effect at the next exec of the child. Raises KwatchError if it may not be traced.

    Only the thread that made it may call its methods.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        try:
            syscall("ptrace", _SEIZE, pid, 0, _TRACE_EXEC)
        except OSError as error:
            raise KwatchError(
                f"the command cannot be stopped at its first instruction: {error.strerror}",
                "run kwatch without a debugger, and with kernel.yama.ptrace_scope below 3",
            ) from error

    def wait(self) -> bool:
        """Waits for the stop. False if the child has ended; it stays a zombie."""
        while True:
            flags = os.WEXITED | os.WSTOPPED | os.WNOWAIT
            found = os.waitid(os.P_PID, self._pid, flags)
            if found is None or found.si_code != os.CLD_TRAPPED:
                return False
            status = os.waitpid(self._pid, 0)[1]
            if status >> 8 == signal.SIGTRAP | _EVENT_EXEC << 8:
                return True
            self._go_on(status)

    def release(self) -> None:
        """Lets the program run, untraced."""
        self._request(_DETACH, 0)

    def _go_on(self, status: int) -> None:
        """A signal came before the exec: the child gets it, and stays stopped if it stops it."""
        number, event = os.WSTOPSIG(status), status >> 16
        if event == _EVENT_STOP and number in _JOB_CONTROL:
            self._request(_LISTEN, 0)
        else:
            self._request(_CONT, 0 if event else number)

    def _request(self, request: int, number: int) -> None:
        with suppress(ProcessLookupError):  # it was killed
            syscall("ptrace", request, self._pid, 0, number)
