# SPDX-License-Identifier: Apache-2.0
"""What a C compiler makes of the headers that the BPF programs share with Python."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

BPF = Path(__file__).parents[2] / "bpf"
SHARED = tuple(
    f"{name}.h"
    for name in "events maps record_maps call_sum_tables unwind_rows capture_rows".split()
)

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_ENUM = re.compile(r"^enum (\w+) \{(.*?)^\};", re.DOTALL | re.MULTILINE)
_STRUCT = re.compile(r"^struct (\w+) \{", re.MULTILINE)
_CONSTANT = re.compile(r"^#define (\w+)[ \t]+(?!__attribute__)", re.MULTILINE)


def evaluate(folder: Path, expressions: Iterable[str], macros: Iterable[str] = ()) -> list[int]:
    """The values of C expressions, computed by a program that includes the shared headers."""
    source, binary = folder / "probe.c", folder / "probe"
    defined = [f"-D{macro}" for macro in macros]
    lines = "\n".join(f'printf("%lld\\n", (long long)({each}));' for each in expressions)
    includes = "".join(f'#include "{header}"\n' for header in SHARED)
    source.write_text(
        "#include <linux/types.h>\n#include <stddef.h>\n#include <stdio.h>\n"
        f"{includes}int main(void) {{\n{lines}\nreturn 0; }}\n"
    )
    subprocess.run(
        ["gcc", "-Wall", "-Werror", *defined, "-I", BPF, "-o", binary, source], check=True
    )
    output = subprocess.run([binary], capture_output=True, text=True, check=True).stdout
    return [int(line) for line in output.splitlines()]


def structs() -> set[str]:
    """The names of the structures that the headers define."""
    return set(_STRUCT.findall(_text()))


def enums() -> dict[str, list[str]]:
    """The names of the enumerations, each with those of its enumerators."""
    return {
        name: [entry.split("=")[0].strip() for entry in body.split(",") if entry.strip()]
        for name, body in _ENUM.findall(_text())
    }


def constants() -> set[str]:
    """The names of the object-like macros that have a value."""
    return set(_CONSTANT.findall(_text()))


def _text() -> str:
    return "".join(_COMMENT.sub("", (BPF / header).read_text()) for header in SHARED)
