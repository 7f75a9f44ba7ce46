# SPDX-License-Identifier: Apache-2.0
"""A cache on disk for the BPF programs that bcc has compiled: clang takes a second or two.

The name of a file is a digest of everything that the programs depend on: the source, the settings,
bcc, and the kernel, whose structures they read. Errors of reads and writes are ignored.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kwatch.kernel import bpf
from kwatch.system.cache_dir import CacheDir, default_dir

_SUFFIX = ".bpf"
_MAX_SIZE = 4 << 20
_LIMIT = 32 << 20  # bytes of all files together
_INSTRUCTION = struct.Struct("<BBhi")
_LOAD_IMMEDIATE = 0x18  # of 64 bits, in two instructions
_SOURCE_REGISTER = 0xF0
_CALL = 0x85
_PSEUDO_KFUNC_CALL = 2 << 4  # a source register that says that it is a function of the kernel
_PSEUDO_MAP_FD = 1 << 4  # a source register that says that the immediate is a map's descriptor


@dataclass(frozen=True, slots=True)
class CompiledMap:
    """`inner`: for a map of maps, the name of a map like those that it holds; otherwise empty."""

    shape: bpf.MapShape
    inner: str = ""


@dataclass(frozen=True, slots=True)
class Compiled:
    """Maps and programs by name. Programs refer to maps by their index in `maps`."""

    maps: dict[str, CompiledMap]
    programs: dict[str, bytes]

    def make_maps(self) -> dict[str, int]:
        """Creates all maps; returns their descriptors by name."""
        made: dict[str, int] = {}
        for name, each in sorted(self.maps.items(), key=lambda item: bool(item[1].inner)):
            made[name] = bpf.create_map(name, each.shape, made.get(each.inner, 0))
        return made

    def code(self, program: str, maps: Mapping[str, int]) -> bytes:
        """The instructions of a program that uses these maps."""
        descriptors = [maps[name] for name in self.maps]
        return _relocated(self.programs[program], descriptors.__getitem__)


def captured(
    descriptors: Mapping[str, int], inner: Mapping[str, str], programs: Mapping[str, bytes]
) -> Compiled:
    """The compiled form of loaded maps, given by their descriptors, and their programs."""
    place = {fd: index for index, fd in enumerate(descriptors.values())}
    shapes = {name: bpf.map_shape(fd) for name, fd in descriptors.items()}
    maps = {name: CompiledMap(shape, inner.get(name, "")) for name, shape in shapes.items()}
    code = {name: _relocated(raw, place.__getitem__) for name, raw in programs.items()}
    return Compiled(maps, code)


def cache_key(parts: Iterable[str]) -> str:
    """The key of programs made from `parts` for the running kernel, known by its build-id."""
    digest = hashlib.blake2b(digest_size=16)
    with contextlib.suppress(OSError):
        digest.update(Path("/sys/kernel/notes").read_bytes())
    system = os.uname()
    for part in (system.release, system.version, system.machine, *parts):
        digest.update(part.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()


def find(key: str) -> Compiled | None:
    """The programs kept under this key; None if there are none."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        with CacheDir(default_dir()) as folder:
            digest, _, data = folder.read(key + _SUFFIX, _MAX_SIZE).partition(b"\n")
            folder.touch(key + _SUFFIX)
        if digest == _digest(data):
            return _decoded(json.loads(data))
    return None


def keep(key: str, compiled: Compiled) -> None:
    with contextlib.suppress(OSError):
        path = default_dir()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with CacheDir(path) as folder:
            data = json.dumps(_encoded(compiled)).encode()
            folder.write(key + _SUFFIX, _digest(data) + b"\n" + data)
            folder.shrink(_SUFFIX, _LIMIT)


def _digest(data: bytes) -> bytes:
    """Detects damaged files, whose programs are then compiled again."""
    return hashlib.blake2b(data, digest_size=16).hexdigest().encode()


def _encoded(compiled: Compiled) -> dict[str, object]:
    maps = {name: [list(each.shape), each.inner] for name, each in compiled.maps.items()}
    programs = {name: base64.b64encode(code).decode() for name, code in compiled.programs.items()}
    return {"maps": maps, "programs": programs}


def _decoded(plain: dict[str, dict[str, list[list[int]]]]) -> Compiled:
    maps = {
        name: CompiledMap(bpf.MapShape(*shape), str(inner))
        for name, (shape, inner) in plain["maps"].items()
    }
    programs = {name: base64.b64decode(str(code)) for name, code in plain["programs"].items()}
    return Compiled(maps, programs)


def _relocated(code: bytes, new: Callable[[int], int]) -> bytes:
    """Replaces the map number in each instruction that loads a map.

    Also the numbers that stand for functions of the kernel.
    """
    return b"".join(_instructions(code, new))


def _instructions(code: bytes, new: Callable[[int], int]) -> Iterator[bytes]:
    at = 0
    while at < len(code):
        opcode, registers, offset, immediate = _INSTRUCTION.unpack_from(code, at)
        wide = opcode == _LOAD_IMMEDIATE
        if wide and registers & _SOURCE_REGISTER == _PSEUDO_MAP_FD:
            immediate = new(immediate)
        elif opcode == _CALL and immediate >= bpf.KERNEL_FUNCTIONS:
            registers, immediate = _PSEUDO_KFUNC_CALL, immediate - bpf.KERNEL_FUNCTIONS
        yield _INSTRUCTION.pack(opcode, registers, offset, immediate)
        at += _INSTRUCTION.size
        if wide:
            yield code[at : at + _INSTRUCTION.size]
            at += _INSTRUCTION.size
