# SPDX-License-Identifier: Apache-2.0
"""What tests may need of the machine: one table, with the cure for each thing that is missing."""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Requirement:
    present: Callable[[], bool]
    cure: str


def _command(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is not None


def browser_command() -> str | None:
    """Chromium, or a browser made from it. A snap would not see the pages below /tmp."""
    found = map(shutil.which, ("chromium", "google-chrome", "google-chrome-stable"))
    return next((path for path in found if path and not path.startswith("/snap/")), None)


def _linkable(library: str) -> Callable[[], bool]:
    def present() -> bool:
        command = ["gcc", f"-print-file-name={library}"]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        return Path(found).is_absolute()

    return present


def _loadable(library: str) -> Callable[[], bool]:
    def present() -> bool:
        try:
            ctypes.CDLL(library)
        except OSError:
            return False
        return True

    return present


def _bcc() -> bool:
    try:
        importlib.import_module("bcc")
    except ImportError:
        return False
    return True


def _m32() -> bool:
    command = ["gcc", "-m32", "-x", "c", "-o", "/dev/null", "-"]
    return subprocess.run(command, input=b"int main(){}", capture_output=True).returncode == 0


REQUIREMENTS = {
    "root": Requirement(lambda: os.geteuid() == 0, "run the tests as root"),
    "bcc": Requirement(_bcc, "install python3-bpfcc and make .venv again: make setup-test"),
    "gcc": Requirement(_command("gcc"), "install gcc and libc6-dev"),
    "g++": Requirement(_command("g++"), "install g++"),
    "m32": Requirement(_m32, "install gcc-multilib (x86-64 only)"),
    "cross": Requirement(
        lambda: Path("/usr/aarch64-linux-gnu/lib/libc.so.6").exists(),
        "install libc6-arm64-cross and libgcc-s1-arm64-cross (x86-64 only)",
    ),
    "musl": Requirement(_command("musl-gcc"), "install musl-tools"),
    "jemalloc": Requirement(_linkable("libjemalloc.so"), "install libjemalloc-dev"),
    "tcmalloc": Requirement(_linkable("libtcmalloc.so"), "install libgoogle-perftools-dev"),
    "mimalloc": Requirement(_linkable("libmimalloc.so"), "install libmimalloc-dev"),
    "dwz": Requirement(_command("dwz"), "install dwz"),
    "debuginfod": Requirement(_loadable("libdebuginfod.so.1"), "install libdebuginfod1"),
    "rustc": Requirement(_command("rustc"), "install rustc"),
    "node": Requirement(_command("node"), "install nodejs"),
    "strace": Requirement(_command("strace"), "install strace"),
    "nginx": Requirement(_command("nginx"), "install nginx-light"),
    "ab": Requirement(_command("ab"), "install apache2-utils"),
    "chromium": Requirement(lambda: browser_command() is not None, "install chromium"),
    "redis": Requirement(_command("redis-server"), "install redis-server"),
}


@functools.cache
def missing(name: str) -> str | None:
    """Why the requirement is not met and what to do; None when it is."""
    requirement = REQUIREMENTS[name]
    return None if requirement.present() else f"needs {name}: {requirement.cure}"
