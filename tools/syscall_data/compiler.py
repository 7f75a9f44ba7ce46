# SPDX-License-Identifier: Apache-2.0
"""Values of C expressions on each ABI, from the headers that the package ziglang carries.

Nothing is run: the values are read from the assembly that the compiler makes.
"""

from __future__ import annotations

import functools
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

#: Each ABI of kwatch.wire.events.Abi and the compiler's name for it.
TARGETS = {
    "x86_64": "x86_64-linux-gnu",
    "i386": "x86-linux-gnu",
    "x32": "x86_64-linux-gnux32",
    "aarch64": "aarch64-linux-gnu",
    "arm": "arm-linux-gnueabihf",
}
_REFUSED = re.compile(r"^\S*values\.c:(\d+):\d+: error", re.MULTILINE)
_MISSING = re.compile(r"fatal error: '([^']+)' file not found")
_OWN = Path(__file__).with_name("structs.h")


class CompileError(Exception):
    """The compiler refuses a header."""


def values(abi: str, headers: Sequence[str], expressions: Sequence[str]) -> dict[str, int]:
    """The 64-bit values of the expressions, without those whose names the ABI does not have."""
    wanted = list(expressions)
    while wanted:
        lines = "\n".join(f"(unsigned long long)({expression})," for expression in wanted)
        head = f"{_includes(headers)}unsigned long long kwatch_values[] = {{\n"
        source = f"{head}{lines}\n}};\n"
        ran = _compile(abi, "-S", source)
        if ran.returncode == 0:
            return dict(zip(wanted, _words(ran.stdout), strict=True))
        wanted = _known(wanted, ran.stderr, head.count("\n") + 1)
    return {}


@functools.cache
def macros(abi: str, headers: Sequence[str]) -> list[str]:
    """Names of the macros without arguments that the headers define, in their order."""
    ran = _compile(abi, "-E", _includes(headers), "-dD")
    if ran.returncode:
        if _MISSING.search(ran.stderr):
            return []
        raise CompileError(ran.stderr)
    return list(dict.fromkeys(re.findall(r"^#define (\w+) ", ran.stdout, re.MULTILINE)))


def header_folder() -> Path:
    """Where the headers of every architecture are."""
    import ziglang

    return Path(ziglang.__file__).parent / "lib/libc/include/any-linux-any"


def _includes(headers: Sequence[str]) -> str:
    lines = [f"#include <{header}>\n" for header in headers if not header.endswith("?")]
    optional = [header[:-1] for header in headers if header.endswith("?")]
    lines += [f"#if __has_include(<{name}>)\n#include <{name}>\n#endif\n" for name in optional]
    return "#include <stddef.h>\n" + "".join(lines)


def _compile(abi: str, mode: str, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ziglang", "cc", "-target", TARGETS[abi], mode, *options]
    flags = ["-w", "-std=gnu11", "-D_GNU_SOURCE", "-ferror-limit=0", f"-I{_OWN.parent}"]
    with tempfile.TemporaryDirectory() as folder:
        written, made = Path(folder, "values.c"), Path(folder, "made")
        written.write_text(source)
        ran = subprocess.run(
            [*command, *flags, "-o", str(made), str(written)], capture_output=True, text=True
        )
        text = made.read_text() if made.exists() else ""
    return subprocess.CompletedProcess(ran.args, ran.returncode, text, ran.stderr)


def _known(expressions: list[str], errors: str, first_line: int) -> list[str]:
    """The expressions that the compiler does not complain of."""
    broken = {int(line) - first_line for line in _REFUSED.findall(errors)}
    kept = [one for i, one in enumerate(expressions) if i not in broken]
    if len(kept) == len(expressions):
        raise CompileError(errors[:2000])
    return kept


def _words(assembly: str) -> list[int]:
    """The 64-bit words of the array that the assembly defines."""
    body = assembly.split("kwatch_values:", 1)[1]
    parts: list[bytes] = []
    for directive, text in re.findall(r"^\s+\.(\w+)\s+(-?\w+)", body, re.MULTILINE):
        if directive in ("quad", "xword"):
            parts.append(struct.pack("<Q", int(text, 0) & (1 << 64) - 1))
        elif directive in ("long", "word"):
            parts.append(struct.pack("<I", int(text, 0) & (1 << 32) - 1))
        elif directive == "zero":
            parts.append(bytes(int(text, 0)))
        else:
            break
    data = b"".join(parts)
    return list(struct.unpack(f"<{len(data) // 8}Q", data))
