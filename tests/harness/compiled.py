# SPDX-License-Identifier: Apache-2.0
"""Small programs with debug information, and addr2line's answers for them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kwatch.elf.elf import Elf
from kwatch.symbols.reader import Answer, Reader

# inner() and middle() are inlined into outer(); the address is that of the call in inner().
INLINED = """
#include <stdio.h>
__attribute__((noinline)) void *spot(unsigned long n) {
    printf("%p\\n", __builtin_return_address(0));
    fflush(stdout);
    getchar();
    return (void *)n;
}
static inline __attribute__((always_inline)) void *inner(unsigned long n) {
    return spot(n);
}
static inline __attribute__((always_inline)) void *middle(unsigned long n) {
    return (char *)inner(n + 1) + 1;
}
__attribute__((noinline)) void *outer(unsigned long n) {
    return (char *)middle(n + 2) + 2;
}
int main(int argc, char **argv) { return outer(argc) == argv; }
"""
CHAIN = ["inner", "middle", "outer"]

Frames = list[tuple[str, str, int]]


def run(*command: object) -> str:
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def compile_c(path: Path, *options: object, source: str = INLINED) -> Path:
    path.with_suffix(".c").write_text(source)
    run("gcc", "-g", "-O2", "-Wl,--build-id", *options, "-o", path, path.with_suffix(".c"))
    return path


def call_in(path: Path, function: str = "outer") -> int:
    """The address of the last byte of the first call instruction in a function."""
    lines = run("objdump", "-d", "--no-show-raw-insn", f"--disassemble={function}", path)
    code = [line.split(":", 1) for line in lines.splitlines() if line.startswith("  ")]
    call = next(i for i, (_, text) in enumerate(code) if text.split()[0] in ("call", "bl"))
    return int(code[call + 1][0], 16) - 1


def addr2line(path: Path, address: int) -> Frames:
    lines = run("addr2line", "-i", "-f", "-C", "-e", path, hex(address)).splitlines()
    places = [line.partition(" (")[0].rpartition(":") for line in lines[1::2]]
    return [
        (name, os.path.normpath(file), int(line))
        for name, (file, _, line) in zip(lines[::2], places, strict=True)
    ]


def located(path: Path, address: int, root: str = "", reader: Reader | None = None) -> Frames:
    answer = ask(reader or Reader(), path, [address], root)
    return [(place.name, place.file, place.line) for place in answer.locations[0].places]


def ask(
    reader: Reader, path: Path, addresses: list[int], root: str = "", number: int = 1
) -> Answer:
    with Elf.open(str(path)) as elf:
        return reader.locate(number, elf.fileno(), str(path), root, addresses)


@contextmanager
def waiting(*command: object) -> Iterator[tuple[int, list[int]]]:
    """Runs a program that prints addresses and waits; yields its pid and the addresses."""
    pipe = subprocess.PIPE
    words = [str(word) for word in command]
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.pid, [int(word, 16) for word in process.stdout.readline().split()]
        finally:
            process.kill()
