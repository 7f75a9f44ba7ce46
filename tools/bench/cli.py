# SPDX-License-Identifier: Apache-2.0
"""The command line: runs the chosen benches and prints one table."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench import (
    check,
    consumer,
    flood,
    memory,
    pair,
    reach,
    record,
    record_programs,
    spawn,
    syscall,
    web,
)
from bench.quiet import Quiet
from bench.rows import Row, table
from bench.settings import FULL, QUICK, Settings

BENCHES: dict[str, Callable[[Settings, Path], Iterable[Row]]] = {
    "pair": pair.measure,
    "check": check.measure,
    "syscall": syscall.measure,
    "consumer": consumer.measure,
    "rate": flood.measure_rate,
    "loss": flood.measure_loss,
    "nginx": web.measure,
    "spawn": spawn.measure,
    "footprint": memory.measure_footprint,
    "live": memory.measure_live,
    "reach": reach.measure,
    "record-web": record.measure_web,
    "record-files": record.measure_files,
    "record-programs": record_programs.measure,
}


_PRIORITY = -10  # the same for everything that is measured; other work yields


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/bench",
        description="Measures what kwatch costs, as ratios in one run.",
    )
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=", ".join(BENCHES))
    parser.add_argument("--quick", action="store_true", help="short and rough")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a limit is passed")
    parser.add_argument(
        "--against", metavar="COMMIT", help="measure the kwatch of an earlier commit, too"
    )
    parser.add_argument("--markdown", action="store_true", help="the table for docs/overhead.md")
    return parser


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    unknown = [name for name in options.benches if name not in BENCHES]
    if unknown:
        parser.error(f"no bench {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    if os.geteuid() != 0:
        parser.error("tracing needs root")
    settings = QUICK if options.quick else FULL
    os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # users start kwatch with compiled bytecode
    rows: list[Row] = []
    with _checkout(options.against) as earlier:
        settings = replace(settings, earlier=earlier)
        for name in options.benches or BENCHES:
            rows += _run(name, settings)
    print(_machine())
    print(Quiet.summary())
    print()
    print(table(rows, options.markdown))
    failed = any(row.failed for row in rows)
    return int(failed or (options.check and any(row.is_over for row in rows)))


@contextmanager
def _checkout(commit: str | None) -> Iterator[Path | None]:
    """The files of another commit, for as long as they are needed."""
    if commit is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="kwatch-bench-") as directory:
        tree = Path(directory, "kwatch")
        here = ["git", "-C", str(Path(__file__).parent)]
        subprocess.run([*here, "worktree", "add", "-q", "--detach", tree, commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*here, "worktree", "remove", "--force", tree], check=True)


def _run(name: str, settings: Settings) -> list[Row]:
    started = time.monotonic()
    rows: list[Row] = []
    try:
        with tempfile.TemporaryDirectory(prefix="kwatch-bench-") as directory:
            rows.extend(BENCHES[name](settings, Path(directory)))
    except Exception as error:  # the other benches still run
        rows.append(Row(name, "did not run", note=type(error).__name__, failed=True))
        print(f"{name}: {error}", file=sys.stderr)
    print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    return rows


def _machine() -> str:
    release = ".".join(platform.release().split(".")[:2])
    return f"Linux {release}, {platform.machine()}, {os.cpu_count()} CPUs"
