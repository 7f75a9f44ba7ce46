# SPDX-License-Identifier: Apache-2.0
"""The command line: runs the chosen services one by one and prints the table."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from confusion.service import Service
from confusion.services import HEALTHY, LEAKING
from confusion.table import Row, sums
from confusion.watch import watch


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/confusion",
        description="Compares kwatch's verdicts on services with what they really hold.",
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help="only services with a WORD")
    parser.add_argument("--seconds", type=float, default=60.0, help="kwatch's --duration (60)")
    parser.add_argument("--list", action="store_true", help="list the services")
    return parser


def main() -> int:
    """Exits with 1 if a leaking service was called clean or not judged, or a service failed."""
    parser = _parser()
    options = parser.parse_args()
    services = [
        service
        for service in (*HEALTHY, *LEAKING)
        if not options.words or any(word in service.name for word in options.words)
    ]
    if options.list:
        print("\n".join(service.name for service in services))
        return 0
    if os.geteuid() != 0:
        parser.error("tracing needs root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the services, as Ctrl-C does
    rows = []
    for service in services:
        rows.append(_run(service, options.seconds))
        print(rows[-1].lines, flush=True)
    print()
    print(sums(rows))
    return int(any(_is_bad(row) for row in rows))


def _is_bad(row: Row) -> bool:
    return row.result is None or (row.service.leaks and row.result.verdict in ("clean", "none"))


def _run(service: Service, seconds: float) -> Row:
    try:
        with tempfile.TemporaryDirectory(prefix="kwatch-confusion-") as name:
            directory = Path(name) / "service"
            directory.mkdir()
            directory.parent.chmod(0o755)  # some servers run as another user
            with service.start(directory) as running:
                result = watch(running, seconds, Path(name) / "reports.jsonl")
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
        return Row(service, None, f"{type(error).__name__}: {error}")
    if service.leaks and result.held_after <= result.held_before:
        print(f"{service.name}: held no more than before", file=sys.stderr)
    return Row(service, result)
