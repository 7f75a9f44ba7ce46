# SPDX-License-Identifier: Apache-2.0
"""The numpy dtypes are what a C compiler makes of bpf/events.h."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kwatch import events
from kwatch.probes.table import Shape

BPF = Path(__file__).parents[2] / "bpf"


def compiled(tmp_path, body):
    """What a C program that includes events.h prints, as words by their first."""
    source, binary = tmp_path / "probe.c", tmp_path / "probe"
    source.write_text(
        "#include <linux/types.h>\n#include <stddef.h>\n#include <stdio.h>\n"
        f'#include "events.h"\nint main(void) {{\n{body}\nreturn 0; }}\n'
    )
    subprocess.run(["gcc", "-I", BPF, "-o", binary, source], check=True)
    output = subprocess.run([binary], capture_output=True, text=True, check=True).stdout
    return {line.split()[0]: int(line.split()[1]) for line in output.splitlines()}


def c_path(name):
    head = {"type": "head.type", "time_ns": "head.time_ns", "tgid": "head.tgid"}
    return head.get(name, name)


@pytest.mark.parametrize("struct", events.STRUCTS)
def test_layout(tmp_path, struct):
    dtype = events.STRUCTS[struct]
    is_control = struct not in ("kwatch_syscall", "kwatch_heap")
    names = [name for name in dtype.names if not name.startswith("reserved")]
    lines = [f'printf("sizeof %zu\\n", sizeof(struct {struct}));']
    for name in names:
        path = c_path(name) if is_control else name
        lines.append(f'printf("{name} %zu\\n", offsetof(struct {struct}, {path}));')
    said = compiled(tmp_path, "\n".join(lines))
    assert said.pop("sizeof") == dtype.itemsize
    assert said == {name: dtype.fields[name][1] for name in names}


@pytest.mark.parametrize(
    ("enumeration", "prefix"),
    [(events.EventType, "EVENT_"), (events.Abi, "ABI_"), (events.Loss, "LOSS_")],
)
def test_enumerations(tmp_path, enumeration, prefix):
    body = "\n".join(f'printf("{e.name} %d\\n", {prefix}{e.name});' for e in enumeration)
    said = compiled(tmp_path, body + '\nprintf("LOSS_CAUSES %d\\n", LOSS_CAUSES);')
    assert said.pop("LOSS_CAUSES") == len(events.Loss)
    assert said == {e.name: int(e) for e in enumeration}


def test_shapes_are_those_of_the_bpf_program():
    text = (BPF / "heap.bpf.c").read_text()
    names = [
        line.split(",")[0].strip().removeprefix("SHAPE_")
        for line in text.split("enum shape {")[1].split("};")[0].splitlines()
        if line.strip().startswith("SHAPE_")
    ]
    assert names == [shape.name for shape in Shape]
