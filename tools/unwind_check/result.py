# SPDX-License-Identifier: Apache-2.0
"""The result for one program, and which results are faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from programs import Checked

KINDS = ("exact", "truncated", "further", "wrong", "lost", "no event")

#: Share of truncated stacks that is accepted: lazy binding, some assembly.
_MAX_TRUNCATED = 0.005


@dataclass(slots=True)
class Result:
    """Number of calls by outcome. `distinct`: number of stacks; `status`: kwatch's exit status."""

    counts: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    distinct: set[int] = field(default_factory=set)
    depths: list[int] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    status: int = 0

    @property
    def compared(self) -> int:
        return self.counts.total() - self.counts["no event"]


def faults(program: Checked, result: Result) -> Iterator[str]:
    """Yields each reason why the check has failed."""
    counts, compared = result.counts, result.compared
    if result.status:
        yield f"ended with status {result.status}"
    if not compared:
        yield "nothing was compared"
    for kind in ("wrong", "lost"):
        if counts[kind]:
            yield f"{counts[kind]} of {compared} stacks are {kind}"
    if counts["truncated"] > _MAX_TRUNCATED * compared and not program.truncated_because:
        yield f"{counts['truncated']} of {compared} stacks are truncated"
