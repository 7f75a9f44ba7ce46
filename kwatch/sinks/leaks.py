# SPDX-License-Identifier: Apache-2.0
"""The report of `kwatch leaks`, as text and as JSON (see docs/json.md)."""

from __future__ import annotations

import sys
from datetime import datetime

from kwatch.model.leaks import Block, BlockGroup, LeakReport
from kwatch.sinks.jsonl import members, text_of
from kwatch.sinks.table.heap import reach_text
from kwatch.sinks.table.screen import Screen, cell, terminal_width
from kwatch.units import format_size

_HEADERS = ("BYTES", "BLOCKS", "SIZE", "CLASS")
_WHAT = "ADDRESSES"  # and what is known of the blocks
_ADDRESSES = 2  # in a table


def json_line(report: LeakReport) -> str:
    """One line of ASCII."""
    heap = {
        "reach": report.reach,
        "groups": [_group(group) for group in report.groups],
        "blocks": None if report.blocks is None else [_block(one) for one in report.blocks],
    }
    rest = members(report)
    for name in heap:
        del rest[name]
    return text_of({"kind": rest.pop("kind"), **rest, "heap": heap})


def _group(group: BlockGroup) -> dict[str, object]:
    found = members(group)
    return (
        {"class": found.pop("class_name")} | found | {"addresses": list(map(hex, group.addresses))}
    )


def _block(block: Block) -> dict[str, object]:
    return {
        "address": hex(block.address),
        "size": block.size,
        "class": block.class_name,
        "exact": block.exact,
    }


def text(report: LeakReport) -> str:
    """Lines for a terminal."""
    screen = Screen(terminal_width(sys.stdout), sys.stdout.encoding)
    clock = f"[{datetime.fromisoformat(report.time).astimezone():%H:%M:%S}]"
    process = report.process
    lines = [
        screen.clip(f"{clock} {process.comm}[{process.pid}]  {process.exe}", screen.width),
        *screen.paragraph(f"scan: {reach_text(report.reach)}", 6),
    ]
    if report.groups:
        rows = [_row(group) for group in report.groups]
        lines += screen.table((*_HEADERS, _WHAT), rows, left=_WHAT)
    lines += screen.paragraph(f"{report.verdict.upper()}: {report.reason}", 2)
    return "\n".join([*lines, "", ""])


def _row(group: BlockGroup) -> list[str]:
    shown = [hex(address) for address in group.addresses[:_ADDRESSES]]
    if group.blocks > _ADDRESSES:
        shown.append("...")
    return [
        format_size(group.bytes),
        cell(group.blocks),
        format_size(group.size),
        group.class_name,
        " ".join(filter(None, [*shown, group.type, _quoted(group.content)])),
    ]


def _quoted(content: str | None) -> str:
    return f'"{content}"' if content else ""
