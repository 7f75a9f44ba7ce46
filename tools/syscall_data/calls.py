# SPDX-License-Identifier: Apache-2.0
"""Arguments of each call: tracefs formats, rules on type and name, and calls.txt, as calls.tsv."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

#: include/linux/syscalls.h: the kernel's name where the ABI has another one.
RENAMED = {
    "newstat": "stat",
    "newlstat": "lstat",
    "newfstat": "fstat",
    "newuname": "uname",
    "umount": "umount2",
    "sendfile64": "sendfile",
    "arm64_personality": "personality",
    "fadvise64_64": "fadvise64",
}
_FIELD = re.compile(r"field:(.+?)\s*(\w+);")

#: Kinds by argument name, where the C type says too little.
_BY_NAME = {
    **dict.fromkeys("fd ufd fd_in fd_out mqdes".split(), "fd"),
    **dict.fromkeys("dfd olddfd newdfd".split(), "dirfd"),
}
_PATHS = frozenset("filename pathname path oldname newname name".split())
_BY_TYPE = {
    "int": "int",
    "unsigned int": "uint",
    "unsigned": "uint",
    "u32": "uint",
    "__u32": "uint",
    "long": "long",
    "unsigned long": "ulong",
    "size_t": "ulong",
    "off_t": "long",
    "loff_t": "off",
    "pid_t": "pid",
    "uid_t": "uid",
    "gid_t": "gid",
    "qid_t": "uint",
    "umode_t": "mode",
    "key_t": "key",
    "mqd_t": "fd",
    "clockid_t": "clock",
    "timer_t": "int",
    "aio_context_t": "hex",
    "rwf_t": "rw_flags",
    "key_serial_t": "int",
}


class Call(NamedTuple):
    name: str
    effect: str
    result: str
    #: pairs of an argument's name and its kind
    arguments: tuple[tuple[str, str], ...]


def formats(root: int) -> dict[str, list[tuple[str, str]]]:
    """C types and names of the arguments of each call of the running kernel, from tracefs."""
    found = {}
    base = f"/proc/self/fd/{root}/events/syscalls"
    for entry in sorted(os.listdir(base)):
        if entry.startswith("sys_enter_"):
            lines = Path(base, entry, "format").read_text().splitlines()
            fields = [match.groups() for match in map(_FIELD.search, lines) if match]
            name = entry.removeprefix("sys_enter_")
            found[RENAMED.get(name, name)] = [(ctype, field) for ctype, field in fields[5:]]
    return found


def read(paths: Iterable[Path], known: dict[str, list[tuple[str, str]]]) -> dict[str, Call]:
    """Every call by name; variants as `call/COMMAND`, and `call@abi` for one ABI."""
    calls = {
        name: Call(name, "", "int", tuple((arg, _guess(ctype, arg)) for ctype, arg in fields))
        for name, fields in known.items()
    }
    for path in paths:
        for line in path.read_text().splitlines():
            if line and not line.startswith("#"):
                for call in _line(line, calls):
                    calls[call.name] = call
    return {
        name: call._replace(effect=call.effect or _effect(call)) for name, call in calls.items()
    }


def rows(calls: dict[str, Call]) -> list[str]:
    """Lines of calls.tsv."""
    return [
        "\t".join(
            [call.name, call.effect, call.result, " ".join(":".join(a) for a in call.arguments)]
        )
        for _, call in sorted(calls.items())
    ]


def _line(line: str, calls: dict[str, Call]) -> Iterable[Call]:
    if line.endswith(" ()"):
        return [Call(name, "", "int", ()) for name in line.split() if name[0] not in "@-("]
    if " = " in line:
        name, _, other = line.partition(" = ")
        twins = [calls[key] for key in calls if key.split("/")[0] == other]
        return [one._replace(name=one.name.replace(other, name, 1)) for one in twins]
    head, _, whole = line.partition(" (")
    words = head.split() + whole.rstrip(")").split()
    names, commands = words[0].partition("/")[::2]
    base = Call(names, "", "int", ()) if whole else calls[names]
    for word in words[1:]:
        base = _changed(base, word, bool(whole))
    if commands:
        return [base._replace(name=f"{names}/{command}") for command in commands.split(",")]
    name, _, abis = names.partition("@")
    return [base._replace(name=f"{name}@{abi}") for abi in abis.split(",")] if abis else [base]


def _changed(call: Call, word: str, is_whole: bool) -> Call:
    if word.startswith("@"):
        return call._replace(effect=word[1:])
    if word.startswith("->"):
        return call._replace(result=word[2:])
    name, kind = word.split("=", 1)
    if is_whole:
        return call._replace(arguments=(*call.arguments, (name, kind)))
    if name not in dict(call.arguments):
        raise SystemExit(f"{call.name} has no argument {name}: {dict(call.arguments)}")
    return call._replace(
        arguments=tuple((arg, kind if arg == name else old) for arg, old in call.arguments)
    )


def _guess(ctype: str, name: str) -> str:
    """The kind that the C type and the argument's name suggest."""
    plain = ctype.replace("const ", "").replace("*const", "*").replace(" const", "").strip()
    if not plain.endswith("*"):
        if name in _BY_NAME and plain in ("int", "unsigned int", "unsigned long", "mqd_t"):
            return _BY_NAME[name]
        return _BY_TYPE.get(plain, "ulong")
    pointee = plain[:-1].strip()
    direction = "<" if ctype.startswith("const ") else ">"
    if pointee == "char":
        return "<path" if name in _PATHS else f"{direction}str"
    if pointee.startswith(("struct ", "union ")):
        kind = pointee.split()[1]
        for prefix in ("__kernel_old_", "__kernel_", "user_", "new_"):
            kind = kind.removeprefix(prefix)
        return direction + kind
    return f"{direction}{_BY_TYPE.get(pointee, pointee)}"


def _effect(call: Call) -> str:
    """What the call does for its caller, where calls.txt does not say."""
    outputs = [kind for _, kind in call.arguments if kind.startswith(">")]
    if not call.arguments and not call.name.startswith("get"):
        return "ws"
    reads = call.name.startswith(("get", "sched_get", "clock_get")) and "set" not in call.name
    return "rs" if reads or (len(outputs) == 1 and not call.name.startswith("set")) else "ws"
