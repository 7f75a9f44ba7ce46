# SPDX-License-Identifier: Apache-2.0
"""The sets of constants: sets.txt with values from the compiler, as constants.tsv."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path

from kwatch.syscalls.constants import Constant, ConstantSet
from syscall_data.compiler import TARGETS, macros, values

_FIELD = re.compile(r"(\w+)\[([^]]*)\]")
_LITERAL = re.compile(r"\w+=\w+")


def read(path: Path) -> dict[str, dict[str, ConstantSet]]:
    """The sets by name and ABI."""
    lines = [line for line in path.read_text().splitlines() if line and line[0] != "#"]
    split = [(head.split(), body) for head, _, body in (line.partition(":") for line in lines)]
    jobs = [(abi, head, body) for head, body in split for abi in TARGETS]
    result: dict[str, dict[str, ConstantSet]] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for (abi, head, _), made in zip(jobs, pool.map(lambda job: _set(*job), jobs), strict=True):
            result.setdefault(head[0], {})[abi] = made
    return result


def rows(sets: dict[str, dict[str, ConstantSet]]) -> list[str]:
    """Lines of constants.tsv: the set as most ABIs have it, then those that differ."""
    lines = []
    for name, by_abi in sets.items():
        for abis in _alike(by_abi):
            chosen = by_abi[abis[0]]
            where = "*" if "x86_64" in abis else ",".join(abis)
            cells = [
                f"{entry.name}={entry.value:x}"
                + (f"/{entry.mask:x}" if entry.mask != entry.value else "")
                for entry in chosen.constants
            ]
            kind = f"{chosen.kind}{chosen.width}"
            lines.append("\t".join([name, where, kind, chosen.unknown, " ".join(cells)]))
    return lines


def _alike(by_abi: dict[str, ConstantSet]) -> list[list[str]]:
    groups: dict[ConstantSet, list[str]] = {}
    for abi, one in by_abi.items():
        groups.setdefault(one, []).append(abi)
    return list(groups.values())


def _set(abi: str, head: list[str], body: str) -> ConstantSet:
    kind = head[1].removesuffix("64")
    headers = tuple(head[2].split(",")) if len(head) > 2 else ()
    masks = {}
    for mask, names in _FIELD.findall(body):
        masks |= {name.split("=")[0].rstrip("?"): mask for name in names.split()}
    words = _FIELD.sub(r"\2", body).split()
    unknown = next((word[1:] for word in words if word.startswith("/")), "")
    words = [word for word in words if not word.startswith("/")]
    known = _values(abi, headers, words, [m for m in masks.values() if not m[0].isdigit()])
    entries, seen = [], set()
    for name in _ordered(words, known):
        mask = masks.get(name)
        number = known[name] & 0xFFFFFFFFFFFFFFFF
        bits = number if mask is None else known[mask] if mask in known else int(mask, 0)
        if (bits, number) not in seen:
            seen.add((bits, number))
            entries.append(Constant(bits, number, name))
    wide = head[1].endswith("64")
    if not wide:
        entries = [Constant(e.mask & 0xFFFFFFFF, e.value & 0xFFFFFFFF, e.name) for e in entries]
    return ConstantSet(kind, 64 if wide else 32, unknown or _prefix(entries), tuple(entries))


def _prefix(entries: list[Constant]) -> str:
    """`O_???` for a set whose first name begins with `O_`."""
    return f"{entries[0].name.split('_')[0]}_???" if entries else "???"


def _values(
    abi: str, headers: tuple[str, ...], words: list[str], masks: list[str]
) -> dict[str, int]:
    literals = dict(word.lstrip("=").split("=") for word in words if _LITERAL.search(word))
    plain = [w.strip("=?") for w in words if "=" not in w.strip("=") and not _is_pattern(w)]
    patterns = [word for word in words if _is_pattern(word)]
    if patterns:
        excluded = [word[1:] for word in patterns if word.startswith("-")]
        plain += [
            name
            for name in macros(abi, headers)
            if any(fnmatchcase(name, p) for p in patterns if not p.startswith("-"))
            and not any(fnmatchcase(name, p) for p in excluded)
        ]
    found = values(abi, headers, list(dict.fromkeys(plain + masks)))
    optional = {word[:-1] for word in words if word.endswith("?")}
    required = {w.strip("=") for w in words if not _is_pattern(w) and "=" not in w.strip("=")}
    missing = {w for w in required if not w.endswith("?")} - found.keys() - optional
    if missing and abi == "x86_64":
        raise SystemExit(f"no value on {abi} in {headers}: {' '.join(sorted(missing))}")
    return found | {name: int(text, 0) for name, text in literals.items()}


def _is_pattern(word: str) -> bool:
    return "*" in word or word.startswith("-")


def _ordered(words: list[str], known: dict[str, int]) -> list[str]:
    """Names as written, then those that a pattern added, by value."""
    written = [
        word.lstrip("=").split("=")[0].rstrip("?") for word in words if not _is_pattern(word)
    ]
    excluded = {word[1:] for word in words if word.startswith("-")}
    named = [name for name in written if name in known]
    added = sorted((known[name], name) for name in known if name not in set(written))
    patterns = [word for word in words if "*" in word and not word.startswith("-")]
    return named + [
        name
        for _, name in added
        if any(fnmatchcase(name, pattern) for pattern in patterns) and name not in excluded
    ]
