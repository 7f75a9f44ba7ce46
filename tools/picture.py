#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records kwatch on the demo service in a terminal, and writes the README's picture from it.

usage: sudo .venv/bin/python tools/picture.py [FILE], after `make demo`; FILE is an SVG.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "kwatch.svg"

COLUMNS, ROWS = 96, 32
CHARACTER, LINE, MARGIN, TITLE = 8.43, 19, 16, 34  # pixels
PAUSE = 6.0  # seconds at the end, before the recording starts again
SAME_MOMENT = 0.3  # seconds: lines that come so close together appear as one

OPTIONS = ["--interval", "2", "--count", "2"]
COLORS = {30: "#6c7086", 31: "#f38ba8", 32: "#a6e3a1", 33: "#f9e2af", 34: "#89b4fa"}
COLORS |= {35: "#f5c2e7", 36: "#94e2d5", 37: "#cdd6f4"}

_SGR = re.compile(r"\x1b\[([\d;]*)m")
_OTHER_CONTROL = re.compile(r"\x1b\[[\d;?]*[A-Za-ln-z]|\r")

STYLE = """
text { font: 14px/1 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #cdd6f4;
  white-space: pre; }
.title { fill: #7f849c; text-anchor: middle; }
@media (prefers-reduced-motion: reduce) { g { animation: none !important; } }
"""


def record() -> list[tuple[float, str]]:
    """What a terminal shows, line by line, each with the seconds since the start."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        program = Path(folder) / "demo_service"
        source = ROOT / "tools" / "demo_service.c"
        subprocess.run(["gcc", "-O1", "-g", "-o", program, source], check=True)
        with subprocess.Popen([program], stdout=subprocess.PIPE, text=True) as service:
            assert service.stdout is not None
            assert service.stdout.readline() == "ready\n"
            try:
                words = ["--pid", str(service.pid), *OPTIONS]
                return [(0.0, f"$ sudo kwatch {' '.join(words)}"), *_lines(words)]
            finally:
                service.terminate()


def _lines(words: list[str]) -> Iterator[tuple[float, str]]:
    """Runs kwatch in a terminal of its own."""
    terminal, its_side = pty.openpty()
    fcntl.ioctl(its_side, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    unwanted = ("COLUMNS", "LINES", "NO_COLOR")
    environment = {k: v for k, v in os.environ.items() if k not in unwanted}
    command = [ROOT / ".venv" / "bin" / "kwatch", *words]
    start = time.monotonic()
    with subprocess.Popen(command, stdout=its_side, stderr=its_side, env=environment) as kwatch:
        os.close(its_side)
        rest = b""
        while data := _read(terminal):
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                for row in _rows(_OTHER_CONTROL.sub("", line.decode())):
                    yield time.monotonic() - start, row
    os.close(terminal)
    if kwatch.returncode != 0:
        sys.exit(f"picture: kwatch ended with {kwatch.returncode}")


def _rows(line: str) -> list[str]:
    """A line as a terminal breaks it; those with colours are kwatch's own, which fit."""
    if _SGR.search(line) or not line:
        return [line]
    return [line[start : start + COLUMNS] for start in range(0, len(line), COLUMNS)]


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: the last process on the other side has ended
        return b""


def moments(lines: list[tuple[float, str]]) -> list[tuple[float, list[str]]]:
    """Lines that came at the same moment, together."""
    found: list[tuple[float, list[str]]] = []
    last = 0.0
    for when, line in lines:
        if found and when - last < SAME_MOMENT:
            found[-1][1].append(line)
        else:
            found.append((when, [line]))
        last = when
    return found


def drawing(shown: list[tuple[float, list[str]]]) -> str:
    """The SVG. A viewer without animations shows the end of the recording."""
    duration = shown[-1][0] + PAUSE
    styles, groups, scroll, count = [STYLE], [], ["0% { transform: translateY(0); }"], 0
    for index, (when, lines) in enumerate(shown):
        percent = 100 * when / duration
        styles.append(_appearance(index, percent, duration) if index else "")
        rows = "\n".join(_row(count + row, line) for row, line in enumerate(lines))
        groups.append(f'<g class="m{index}">\n{rows}\n</g>')
        count += len(lines)
        offset = LINE * max(0, count - ROWS)
        scroll.append(f"{percent:.2f}% {{ transform: translateY(-{offset}px); }}")
    styles.append(
        f".all {{ transform: translateY(-{offset}px); "
        f"animation: scroll {duration:.1f}s step-end infinite; }}"
        f"\n@keyframes scroll {{ {' '.join(scroll)} }}"
    )
    return _document("".join(styles), "\n".join(groups))


def _appearance(index: int, percent: float, duration: float) -> str:
    return (
        f".m{index} {{ animation: show{index} {duration:.1f}s step-end infinite; }}\n"
        f"@keyframes show{index} {{ 0% {{ opacity: 0; }} {percent:.2f}% {{ opacity: 1; }} }}\n"
    )


def _row(number: int, line: str) -> str:
    return f'<text x="0" y="{(number + 1) * LINE - 5}" xml:space="preserve">{_spans(line)}</text>'


def _spans(line: str) -> str:
    """The text of a line, with its colours."""
    first, *rest = _SGR.split(line)
    codes: list[int] = []
    parts = [escape(first)]
    for sequence, text in zip(rest[::2], rest[1::2], strict=True):
        numbers = [int(number or 0) for number in sequence.split(";")]
        codes = [] if 0 in numbers else codes + numbers
        color = next((COLORS[code] for code in codes if code in COLORS), "#cdd6f4")
        weight = "bold" if 1 in codes else "normal"
        parts.append(f'<tspan fill="{color}" font-weight="{weight}">{escape(text)}</tspan>')
    return "".join(parts)


def _document(style: str, body: str) -> str:
    width = round(COLUMNS * CHARACTER) + 2 * MARGIN
    height = ROWS * LINE + TITLE + MARGIN
    dots = "".join(
        f'<circle cx="{20 + 20 * index}" cy="17" r="6" fill="{color}"/>'
        for index, color in enumerate(("#f38ba8", "#f9e2af", "#a6e3a1"))
    )
    size = f'viewBox="0 0 {width} {height}" width="{width}"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" {size}>
<title>kwatch attaches to a running service and finds its leak</title>
<!-- Made by tools/picture.py; do not edit. -->
<style>{style}</style>
<rect width="100%" height="100%" rx="8" fill="#1e1e2e"/>
{dots}
<text class="title" x="50%" y="22">kwatch on tools/demo_service.c</text>
<svg x="{MARGIN}" y="{TITLE}" width="{width - 2 * MARGIN}" height="{ROWS * LINE}">
<g class="all">
{body}
</g>
</svg>
</svg>
"""


def main() -> None:
    if os.geteuid() != 0:
        sys.exit("picture: tracing needs root: run it with sudo")
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(drawing(moments(record())), encoding="utf-8")
    print(f"wrote {file}")


if __name__ == "__main__":
    main()
