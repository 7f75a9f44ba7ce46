# SPDX-License-Identifier: Apache-2.0
"""Helper processes of kwatch, which must not outlive it."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
_PACKAGES = str(Path(__file__).resolve().parents[2])


def python_command(function: Callable[[str], None], argument: str) -> list[str]:
    """A command that calls a public function of kwatch in a Python without site packages."""
    module, name = function.__module__, function.__name__
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        f"from {module} import {name}; {name}(sys.argv[2])"
    )
    return [sys.executable, "-I", "-S", "-c", program, _PACKAGES, argument]


def die_with_parent() -> None:
    """The kernel kills this process when the thread that started it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
