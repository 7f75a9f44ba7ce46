# SPDX-License-Identifier: Apache-2.0
"""What holds blocks, as text and as JSON (see docs/json.md)."""

from __future__ import annotations

from collections.abc import Sequence

from kwatch.model.holders import HolderPath, HolderReport, PathStep
from kwatch.sinks.jsonl import members, text_of
from kwatch.units import counted, format_size

_MAX_ENDS = 8  # steps at each end of a path that are shown

_WORDS = {
    "definite": "definitely lost: nothing holds it",
    "indirect": "indirectly lost: only lost blocks hold it",
    "possible": "possibly lost: held by a pointer into the middle of a block",
    "reachable": "still reachable",
    "": "in no block of the heap",
}


def json_line(found: HolderPath) -> str:
    """One line of ASCII."""
    record = members(found)
    named = {"kind": record.pop("kind"), "class": record.pop("class_name")}
    return text_of(
        named
        | record
        | {
            "address": hex(found.address),
            "root_address": None if found.root_address is None else hex(found.root_address),
            "path": [members(step) | {"address": hex(step.address)} for step in found.path],
        }
    )


def text(found: HolderPath) -> str:
    """One line for each step, the root first."""
    process = found.process
    lines = [f"{process.comm}[{process.pid}]: {found.address:#x} is {_WORDS[found.class_name]}"]
    if found.root:
        at = "" if found.root_address is None else f"  {found.root_address:#x}"
        lines.append(f"  {found.root}{at}")
        lines += _steps(found.path)
    return "\n".join([*lines, ""])


def _steps(path: Sequence[PathStep]) -> list[str]:
    """A long path loses its middle."""
    if len(path) <= 2 * _MAX_ENDS:
        return [_step(step) for step in path]
    left_out = f"  ... {len(path) - 2 * _MAX_ENDS:,} more"
    first, last = path[:_MAX_ENDS], path[-_MAX_ENDS:]
    return [*map(_step, first), left_out, *map(_step, last)]


def _step(step: PathStep) -> str:
    entry = f" at +{step.entry:#x}" if step.entry else ""
    pointer = f", its word +{step.pointer:#x}" if step.pointer is not None else ""
    size = format_size(step.size)
    return f"  -> block {step.address:#x} ({size}){entry}{pointer}"


def sums_json_line(report: HolderReport) -> str:
    """One line of ASCII."""
    record = members(report)
    return text_of({"kind": record.pop("kind")} | record)


def sums_text(report: HolderReport, top: int) -> str:
    """A line for each holder, at most `top` of them."""
    process = f"{report.process.comm}[{report.process.pid}]"
    if report.error:
        unknown = f"what holds the blocks of {report.function} is not known"
        return f"{process}: {unknown}: {report.error}\n\n"
    if not report.found.blocks:
        return f"{process}: no outstanding block is from {report.function}\n\n"
    amount = f"{counted(report.found.blocks, 'block')} ({format_size(report.found.bytes)})"
    which, origin = report.of, "of"
    if report.function:
        which, origin = f"{counted(report.stacks, 'stack')} with {report.function}", "from"
    lines = [f"{process}: {amount} of {which} are held by"]
    for one in report.held_by[:top]:
        place = one.name if one.kind == "root" else f"blocks {origin} {one.name}"
        lines.append(_sum(one.blocks, one.bytes, place))
    if rest := report.held_by[top:]:
        blocks, size = sum(one.blocks for one in rest), sum(one.bytes for one in rest)
        lines.append(_sum(blocks, size, f"{len(rest)} more"))
    if report.unheld.blocks:
        lines.append(_sum(report.unheld.blocks, report.unheld.bytes, "nothing that was found"))
    return "\n".join([*lines, "", ""])


def _sum(blocks: int, size: int, place: str) -> str:
    return f"  {format_size(size):>9}  {counted(blocks, 'block'):>12}  {place}"
