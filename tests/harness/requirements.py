# SPDX-License-Identifier: Apache-2.0
"""What tests may need on the machine: one table, with what to do when it is missing."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from harness import builder
from harness.libraries import library
from harness.programs import compiler_of
from kwatch.programs import io_uring


@dataclass(frozen=True)
class Requirement:
    present: Callable[[], bool]
    cure: str


def _command(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is not None


def browser_command() -> str | None:
    """Chromium or Google Chrome. A snap is skipped: it cannot read pages below /tmp."""
    found = map(shutil.which, ("chromium", "google-chrome", "google-chrome-stable"))
    return next((path for path in found if path and not path.startswith("/snap/")), None)


def _compiler(name: str) -> Callable[[], bool]:
    return lambda: builder.VARIABLE in os.environ or _command(name)()


def _library(name: str) -> Callable[[], bool]:
    return lambda: library(name) is not None


def _loadable(library: str) -> Callable[[], bool]:
    def present() -> bool:
        try:
            ctypes.CDLL(library)
        except OSError:
            return False
        return True

    return present


def _bcc() -> bool:
    """Asks a child: the import maps LLVM, which can crash the process that runs the tests."""
    done = subprocess.run([sys.executable, "-c", "import bcc"], capture_output=True)
    return done.returncode == 0


def _m32() -> bool:
    if builder.VARIABLE in os.environ:
        return True
    command = [*compiler_of(["gcc", "-m32"]), "-x", "c", "-o", "/dev/null", "-"]
    try:
        done = subprocess.run(command, input=b"int main(){}", capture_output=True)
    except FileNotFoundError:
        return False
    return done.returncode == 0


def _io_uring() -> bool:
    return io_uring.exists() and io_uring.is_traceable()


REQUIREMENTS = {
    "root": Requirement(lambda: os.geteuid() == 0, "run the tests as root"),
    "bcc": Requirement(_bcc, "install python3-bpfcc and make .venv again: make setup-test"),
    "gcc": Requirement(_compiler("gcc"), "install gcc and libc6-dev"),
    "g++": Requirement(_compiler("g++"), "install g++"),
    "m32": Requirement(_m32, "install gcc-i686-linux-gnu (on arm64 gcc-arm-linux-gnueabihf)"),
    "cross": Requirement(
        lambda: Path("/usr/aarch64-linux-gnu/lib/libc.so.6").exists(),
        "install libc6-arm64-cross and libgcc-s1-arm64-cross (x86-64 only)",
    ),
    "arm64-gcc": Requirement(
        lambda: Path("/usr/aarch64-linux-gnu/include/stdio.h").exists(),
        "install gcc-aarch64-linux-gnu and libc6-dev-arm64-cross",
    ),
    "musl": Requirement(_compiler("musl-gcc"), "install musl-tools"),
    "jemalloc": Requirement(_library("libjemalloc"), "install libjemalloc-dev"),
    "tcmalloc": Requirement(_library("libtcmalloc"), "install libgoogle-perftools-dev"),
    "mimalloc": Requirement(_library("libmimalloc"), "install libmimalloc-dev"),
    "dwz": Requirement(_command("dwz"), "install dwz"),
    "debuginfod": Requirement(_loadable("libdebuginfod.so.1"), "install libdebuginfod1"),
    "rustc": Requirement(_command("rustc"), "install rustc"),
    "node": Requirement(_command("node"), "install nodejs"),
    "valgrind": Requirement(_command("valgrind"), "install valgrind"),
    "strace": Requirement(_command("strace"), "install strace"),
    "nginx": Requirement(_command("nginx"), "install nginx-light"),
    "ab": Requirement(_command("ab"), "install apache2-utils"),
    "chromium": Requirement(lambda: browser_command() is not None, "install chromium"),
    "ruby": Requirement(_command("ruby"), "install ruby"),
    "memcg": Requirement(
        lambda: "memory" in Path("/proc/cgroups").read_text(), "boot with cgroup_enable=memory"
    ),
    "fuse": Requirement(lambda: os.access("/dev/fuse", os.W_OK), "load the kernel module fuse"),
    "pyspark": Requirement(
        lambda: find_spec("pyspark") is not None and _command("java")(),
        "install a JRE (default-jre-headless) and make setup-test, which installs pyspark",
    ),
    "io_uring": Requirement(
        _io_uring, "boot a kernel with CONFIG_IO_URING, and set kernel.io_uring_disabled to 0"
    ),
    "redis": Requirement(_command("redis-server"), "install redis-server"),
}


@functools.cache
def missing(name: str) -> str | None:
    """Why the requirement is not met and what to do; None if it is met."""
    requirement = REQUIREMENTS[name]
    return None if requirement.present() else f"needs {name}: {requirement.cure}"
