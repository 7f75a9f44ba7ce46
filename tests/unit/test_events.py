# SPDX-License-Identifier: Apache-2.0
"""The layouts in Python are what a C compiler makes of bpf/events.h and bpf/maps.h."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

import pytest

from kwatch.wire import events, maps

BPF = Path(__file__).parents[2] / "bpf"


def compiled(tmp_path, body):
    """What a C program that includes both headers prints, as words by their first."""
    source, binary = tmp_path / "probe.c", tmp_path / "probe"
    source.write_text(
        "#include <linux/types.h>\n#include <stddef.h>\n#include <stdio.h>\n"
        f'#include "events.h"\n#include "maps.h"\nint main(void) {{\n{body}\nreturn 0; }}\n'
    )
    subprocess.run(["gcc", "-I", BPF, "-o", binary, source], check=True)
    output = subprocess.run([binary], capture_output=True, text=True, check=True).stdout
    return {line.split()[0]: int(line.split()[1]) for line in output.splitlines()}


def c_path(struct, name):
    """Where a field of the dtype is in C, where some begin with others."""
    if struct == "kwatch_stacked_syscall" and name in events.SYSCALL.names:
        return f"call.{name}"
    in_head = struct not in ("kwatch_syscall", "kwatch_stacked_syscall", "kwatch_heap")
    return f"head.{name}" if in_head and name in ("type", "time_ns", "tgid") else name


@pytest.mark.parametrize("struct", events.STRUCTS)
def test_layout(tmp_path, struct):
    dtype = events.STRUCTS[struct]
    names = [name for name in dtype.names if not name.startswith("reserved")]
    lines = [f'printf("sizeof %zu\\n", sizeof(struct {struct}));']
    for name in names:
        lines.append(f'printf("{name} %zu\\n", offsetof(struct {struct}, {c_path(struct, name)}));')
    said = compiled(tmp_path, "\n".join(lines))
    assert said.pop("sizeof") == dtype.itemsize
    assert said == {name: dtype.fields[name][1] for name in names}


@pytest.mark.parametrize(
    ("enumeration", "prefix"),
    [
        (events.EventType, "EVENT_"),
        (events.Abi, "ABI_"),
        (events.Loss, "LOSS_"),
        (events.NoCallStack, "CALL_STACK_"),
        (maps.TargetFlag, "TARGET_"),
        (maps.CallFlag, "CALL_"),
        (maps.MemoryRole, "MEMORY_"),
        (maps.AllocSignature, "SIGNATURE_"),
    ],
)
def test_enumerations(tmp_path, enumeration, prefix):
    body = "\n".join(f'printf("{e.name} %d\\n", {prefix}{e.name});' for e in enumeration)
    said = compiled(tmp_path, body + '\nprintf("LOSS_CAUSES %d\\n", LOSS_CAUSES);')
    assert said.pop("LOSS_CAUSES") == len(events.Loss)
    assert said == {e.name: int(e) for e in enumeration}


@pytest.mark.parametrize("struct", maps.STRUCTS)
def test_layout_of_map_values(tmp_path, struct):
    mirror = maps.STRUCTS[struct]
    names = [name for name, _ in mirror._fields_]
    lines = [f'printf("sizeof %zu\\n", sizeof(struct {struct}));']
    lines += [f'printf("{name} %zu\\n", offsetof(struct {struct}, {name}));' for name in names]
    said = compiled(tmp_path, "\n".join(lines))
    assert said.pop("sizeof") == ctypes.sizeof(mirror)
    assert said == {name: getattr(mirror, name).offset for name in names}


@pytest.mark.parametrize(
    "name", ["CALL_NUMBERS", "CALL_ROLE_SHIFT", "MAX_PATTERNS", "COOKIE_SIGNATURE_SHIFT"]
)
def test_numbers(tmp_path, name):
    assert compiled(tmp_path, f'printf("{name} %d\\n", {name});') == {name: getattr(maps, name)}


@pytest.mark.parametrize(
    ("enumeration", "name"),
    [
        (events.EventType, "kwatch_event_type"),
        (events.Abi, "kwatch_abi"),
        (maps.TargetFlag, "target_flag"),
        (maps.CallFlag, "call_flag"),
        (maps.MemoryRole, "memory_role"),
        (maps.AllocSignature, "alloc_signature"),
    ],
)
def test_no_enumerator_is_missing(enumeration, name):
    text = "".join((BPF / header).read_text() for header in ("events.h", "maps.h"))
    body = re.sub(r"/\*.*?\*/", "", text.split(f"enum {name} {{")[1].split("};")[0], flags=re.S)
    words = [
        word.split("=")[0].split("_", 1)[1].strip() for word in body.split(",") if word.strip()
    ]
    assert words == [member.name for member in enumeration]
