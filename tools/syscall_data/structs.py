# SPDX-License-Identifier: Apache-2.0
"""Layouts of structures: structs.txt with offsets and sizes from the compiler, as structs.tsv."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from syscall_data.compiler import TARGETS, values


class Struct(NamedTuple):
    type: str
    headers: tuple[str, ...]
    #: label, path of the member, kind or ""; `...` and `|` stand for themselves.
    members: tuple[tuple[str, str, str], ...]


def read(path: Path) -> dict[str, Struct]:
    """The structures by name, as they are written."""
    result = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            head, _, body = line.partition(": ")
            name, ctype, *headers = head.split()
            members = tuple(_member(word) for word in body.split())
            listed = tuple(headers[0].split(",")) if headers else ()
            result[name] = Struct(ctype.replace(":", " "), listed, members)
    return result


def rows(structs: dict[str, Struct]) -> list[str]:
    """Lines of structs.tsv: for each group of ABIs that agree, the size and the members."""
    jobs = [(abi, name) for name in structs for abi in TARGETS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda job: _layout(job[0], structs[job[1]]), jobs)
        layouts = dict(zip(jobs, found, strict=True))
    lines = []
    for name, struct in structs.items():
        groups: dict[str, list[str]] = {}
        for abi in TARGETS:
            layout = layouts[abi, name]
            if layout is not None:
                groups.setdefault(layout, []).append(abi)
        if not groups:
            raise SystemExit(f"no ABI has {struct.type} in {struct.headers}")
        lines += [f"{name}\t{','.join(abis)}\t{layout}" for layout, abis in groups.items()]
    return lines


def _member(word: str) -> tuple[str, str, str]:
    if word in ("...", "|"):
        return (word, "", "")
    path, _, kind = word.partition("=")
    return (path.rsplit(".", 1)[-1], path, kind)


def _layout(abi: str, struct: Struct) -> str | None:
    ctype = struct.type.rstrip("?")
    paths = [path for _, path, _ in struct.members if path]
    measured = {("size", ""): f"sizeof({ctype})"}
    for path in paths:
        place, member = f"offsetof({ctype}, {path})", f"(({ctype} *)0)->{path}"
        if path == "self":
            place, member = "0", f"*({ctype} *)0"
        measured[path, "at"] = place
        measured[path, "size"] = f"sizeof({member})"
        measured[path, "sign"] = (
            f"__builtin_choose_expr(__builtin_classify_type({member}) == 1, "
            f"(__typeof__(__builtin_choose_expr(__builtin_classify_type({member}) == 1, "
            f"{member}, 0)))-1 < 0, 0)"
        )
    found = values(abi, ("structs.h", *struct.headers), list(measured.values()))
    if len(found) < len(set(measured.values())):
        if struct.type.endswith("?"):
            return None
        raise SystemExit(f"{abi}: {ctype} lacks a member")
    cells = [str(found[measured["size", ""]])]
    for label, path, kind in struct.members:
        if not path:
            cells.append(label)
            continue
        at, size, sign = (found[measured[path, what]] for what in ("at", "size", "sign"))
        cells.append(f"{label}:{at}:{'i' if sign else 'u'}{size}" + (f":{kind}" if kind else ""))
    return "\t".join([cells[0], " ".join(cells[1:])])
