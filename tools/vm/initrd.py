# SPDX-License-Identifier: Apache-2.0
"""Builds the initial RAM disk: busybox and the modules for a root over virtio-9p."""

from __future__ import annotations

import gzip
import io
import lzma
import re
import stat
import subprocess
from pathlib import Path

_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
_INIT = Path(__file__).with_name("init")


def make_initrd(root: Path, place: Path) -> None:
    """Writes the archive for the only kernel whose modules are below `root`."""
    modules = _in_order(root)
    archive = io.BytesIO()
    for name in ("bin", "modules", "new"):
        _add(archive, name, stat.S_IFDIR | 0o755)
    busybox = next(p for p in (root / "usr/bin/busybox", root / "bin/busybox") if p.exists())
    _add(archive, "bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes())
    _add(archive, "init", stat.S_IFREG | 0o755, _INIT.read_bytes())
    for number, (name, code) in enumerate(modules.items()):
        _add(archive, f"modules/{number:02}-{name}.ko", stat.S_IFREG | 0o644, code)
    _add(archive, "TRAILER!!!", 0)
    place.write_bytes(gzip.compress(archive.getvalue(), 6, mtime=0))


def _add(archive: io.BytesIO, name: str, mode: int, data: bytes = b"") -> None:
    """One entry in cpio's `newc` format (linux Documentation/driver-api/early-userspace)."""
    path = name.encode() + b"\0"
    fields = (archive.tell(), mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    archive.write(b"070701" + b"".join(b"%08X" % field for field in fields) + path)
    archive.write(bytes(-archive.tell() % 4))
    archive.write(data)
    archive.write(bytes(-archive.tell() % 4))


def _in_order(root: Path) -> dict[str, bytes]:
    """The modules and their dependencies in load order, without built-in ones."""
    files = {_name(path): path for path in root.glob("lib/modules/*/kernel/**/*.ko*")}
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in found or name not in files:
            return
        code = _code(files[name])
        for other in _depends(code):
            add(other)
        found[name] = code

    for name in _MODULES:
        add(name)
    return found


def _name(path: Path) -> str:
    return path.name.partition(".")[0].replace("-", "_")


def _code(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dc"], input=data, stdout=-1, check=True).stdout
    return data


def _depends(code: bytes) -> list[str]:
    """The `depends` line of the module's .modinfo."""
    line = re.search(rb"\0depends=([^\0]*)\0", code)
    return [name.replace("-", "_") for name in line[1].decode().split(",") if name] if line else []
