# SPDX-License-Identifier: Apache-2.0
"""Builds tests/programs. The first line of each source says how: `// build: FLAGS`."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

from harness import builder

SOURCES = Path(__file__).parent.parent / "programs"
COMPILERS = {".c": "gcc", ".cpp": "g++"}
COMPILERS_32 = {"x86_64": "i686-linux-gnu-gcc", "aarch64": "arm-linux-gnueabihf-gcc"}


class Programs:
    """Builds programs by name, and again when their source is newer."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def __call__(self, name: str, *flags: str, compiler: str | None = None) -> Path:
        """The executable of tests/programs/NAME; `flags` come after its own."""
        source = _source(name)
        command = [compiler or COMPILERS[source.suffix], *_own_flags(source), *flags]
        variant = hashlib.sha256("\0".join(command).encode()).hexdigest()[:12]
        # Variants differ in the directory, so comm and base name are always the program's name.
        binary = self._cache / variant / name
        if not _is_newer(binary, source, *SOURCES.glob("*.h")):
            _build(command, source, binary)
        return binary


def _source(name: str) -> Path:
    found = [path for suffix in COMPILERS if (path := SOURCES / f"{name}{suffix}").exists()]
    if not found:
        raise FileNotFoundError(f"no program {name!r} in {SOURCES}")
    return found[0]


def _own_flags(source: Path) -> list[str]:
    first = source.read_text().partition("\n")[0]
    prefix, build, flags = first.partition("// build:")
    if prefix or not build:
        raise ValueError(f"{source}: the first line is not `// build: FLAGS`")
    return flags.split()


def _is_newer(binary: Path, *sources: Path) -> bool:
    return binary.exists() and all(
        binary.stat().st_mtime_ns > source.stat().st_mtime_ns for source in sources
    )


def compiler_of(command: Sequence[str], machine: str = platform.machine()) -> list[str]:
    """The command for a machine; 32-bit programs (-m32) need a separate compiler.

    That is a cross compiler on x86-64 too: gcc-multilib conflicts with the arm64 cross compiler.
    """
    if "-m32" not in command:
        return list(command)
    return [COMPILERS_32[machine], *(word for word in command[1:] if word != "-m32")]


def compile_program(command: Sequence[str], source: Path, binary: Path) -> None:
    """Raises subprocess.CalledProcessError, whose stderr has the compiler's messages."""
    # The linker needs libraries among the flags after the source that uses them.
    full = [command[0], str(source), *command[1:], "-o", str(binary)]
    subprocess.run(full, capture_output=True, text=True, check=True)


def _build(command: list[str], source: Path, binary: Path) -> None:
    binary.parent.mkdir(parents=True, exist_ok=True)
    unfinished = binary.with_name(f"{binary.name}.{os.getpid()}")
    if elsewhere := os.environ.get(builder.VARIABLE):
        builder.ask(Path(elsewhere), command, source, unfinished)
    else:
        try:
            compile_program(compiler_of(command), source, unfinished)
        except subprocess.CalledProcessError as error:
            raise RuntimeError(f"{error}\n{error.stderr}") from error
    unfinished.replace(binary)
