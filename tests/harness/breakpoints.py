# SPDX-License-Identifier: Apache-2.0
"""Tells whether malloc is probed in a running process by comparing its code with the file."""

from __future__ import annotations

import time
from dataclasses import dataclass

from harness.lines import DEADLINE
from kwatch.elf.elf import Elf
from kwatch.procfs.mappings import read_mappings


@dataclass(frozen=True)
class Malloc:
    """libc's malloc in a process: its address, and its first byte in the file."""

    pid: int
    address: int
    original: bytes

    def is_untouched(self) -> bool:
        with open(f"/proc/{self.pid}/mem", "rb") as memory:
            memory.seek(self.address)
            return memory.read(1) == self.original


def malloc_of(pid: int) -> Malloc:
    for mapping in read_mappings(pid):
        if mapping.executable and "libc.so" in mapping.path:
            with Elf.open(mapping.path) as elf:
                function = elf.functions(["malloc"])["malloc"]
                address = mapping.start + function.offset - mapping.offset
                return Malloc(pid, address, elf.read(function.vaddr, 1))
    raise AssertionError("no libc")


def wait_until_clean(pid: int) -> None:
    """The kernel removes a killed tracer's probes some time after its exit."""
    malloc = malloc_of(pid)
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if malloc.is_untouched():
            return
        time.sleep(0.02)
    raise AssertionError("a breakpoint stayed in the target")
