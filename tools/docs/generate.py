# SPDX-License-Identifier: Apache-2.0
"""Writes the generated documents, or with --check says which ones are out of date."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from docs import filters, losses, man, probes, recordings, reference
from docs.parsers import commands

FOLDER = Path(__file__).resolve().parent.parent.parent / "docs"


def documents() -> dict[str, str]:
    """The text of each generated document by its name in docs/."""
    found = commands()
    return {
        "cli.md": reference.page(found),
        "kwatch.1": man.page(found),
        "probes.md": probes.page(),
        "filters.md": filters.page(_now("filters.md") or ""),
        "recordings.md": recordings.page(_now("recordings.md") or ""),
        "semantics.md": losses.page(_now("semantics.md") or ""),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools/docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if one is stale")
    check = parser.parse_args().check
    stale = {name: text for name, text in documents().items() if _now(name) != text}
    for name, text in stale.items():
        if check:
            print(f"docs/{name} is not what the program says: run `make docs`", file=sys.stderr)
        else:
            (FOLDER / name).write_text(text, encoding="utf-8")
            print(f"wrote docs/{name}")
    return int(check and bool(stale))


def _now(name: str) -> str | None:
    path = FOLDER / name
    return path.read_text(encoding="utf-8") if path.exists() else None
