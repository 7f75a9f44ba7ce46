# SPDX-License-Identifier: Apache-2.0
"""Compiles the tests' programs for a guest, with the host's cross compilers."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from harness.programs import compile_program, compiler_of

from vm.kernels import Architecture


class CrossCompiler:
    """`root`: a guest's file system, which has musl; `cache`: the compiled programs."""

    def __init__(self, architecture: Architecture, root: Path, cache: Path) -> None:
        self._architecture = architecture
        self._root = root
        self._cache = cache

    def __call__(self, command: Sequence[str], source: Path, binary: Path) -> None:
        """As harness.programs.compile_program."""
        own = self._translated(command)
        texts = [path.read_bytes() for path in (source, *sorted(source.parent.glob("*.h")))]
        key = hashlib.sha256(b"\0".join([repr(own).encode(), *texts])).hexdigest()[:16]
        kept = self._cache / key
        if not kept.exists():
            self._cache.mkdir(parents=True, exist_ok=True)
            unfinished = kept.with_name(f"{key}.{os.getpid()}.{id(self)}")
            compile_program(own, source, unfinished)
            unfinished.replace(kept)
        shutil.copy(kept, binary)

    def _translated(self, command: Sequence[str]) -> list[str]:
        """The command with the compiler of this architecture."""
        name, *flags = command
        if "-m32" in flags:
            return compiler_of(command, self._architecture.machine)
        if name == "musl-gcc":
            return [f"{self._architecture.triple}-gcc", f"-specs={self._musl_specs()}", *flags]
        return [f"{self._architecture.triple}-{name}", *flags]

    def _musl_specs(self) -> Path:
        """musl's gcc specs, with the guest's paths as the host sees them."""
        specs = next(self._root.glob("usr/lib/*-linux-musl/musl-gcc.specs"))
        text = re.sub(r"/usr/(?=lib|include)", f"{self._root}/usr/", specs.read_text())
        place = self._cache / f"musl-{hashlib.sha256(text.encode()).hexdigest()[:16]}.specs"
        if not place.exists():
            self._cache.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        return place
