# SPDX-License-Identifier: Apache-2.0
"""Measures one process under several peers in turn, round after round."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

from bench.peers import Peer
from bench.quiet import Quiet
from bench.rows import Row, ratio
from bench.settings import Settings
from bench.workload import Loop

_WARM_UP_MS = 50
_ATTEMPTS = 2


@dataclass(slots=True)
class Comparison:
    """ns per operation by peer, one figure per round. `reasons`: why a peer has no figure."""

    bench: str
    unit: str
    figures: dict[str, list[float]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def rows(self) -> list[Row]:
        """The cost under each peer."""
        found = [
            Row(self.bench, name, median(values), self.unit, note=_spread(values))
            for name, values in self.figures.items()
        ]
        return found + [Row(self.bench, name, note=why) for name, why in self.reasons.items()]

    def ratio(
        self, over: str, under: str, limit: float | None = None, at_least: bool = False
    ) -> Row:
        """Compares figures of the same round, which were measured within seconds."""
        measure = f"{over} / {under}"
        for name in (over, under):
            if name in self.reasons:
                return Row(self.bench, measure, note=f"no {name}")
        return ratio(self.bench, measure, self.figures[over], self.figures[under], limit, at_least)

    def others(self, *names: str) -> list[str]:
        """Those of these peers that have figures."""
        return [name for name in names if name in self.figures]

    def difference(self, more: str, less: str) -> list[float]:
        """The extra cost of `more` in each round."""
        return [a - b for a, b in zip(self.figures[more], self.figures[less], strict=True)]


def _spread(values: list[float]) -> str:
    return f"{min(values):,.0f} to {max(values):,.0f}"


def compare(
    loop: Loop, what: str, peers: Iterable[Peer], unit: str, settings: Settings
) -> Comparison:
    """Measures `what` in the same process under each peer, `settings.rounds` times."""
    peers = list(peers)
    found = Comparison("syscall" if what == "getppid" else "pair", unit)
    for peer in peers:
        if peer.is_missing:
            found.reasons[peer.name] = f"{peer.command} is not installed"
    for _ in range(settings.rounds):
        for peer in peers:
            if peer.name not in found.reasons:
                _visit(found, loop, what, peer, settings.slice_ms)
    return found


def _visit(found: Comparison, loop: Loop, what: str, peer: Peer, slice_ms: int) -> None:
    """Measures once; another tool that fails is retried once, then left out."""
    for attempt in range(_ATTEMPTS):
        try:
            figure = _under(loop, what, peer, slice_ms)
        except (RuntimeError, TimeoutError) as error:
            if not peer.command:
                raise
            if attempt + 1 == _ATTEMPTS:
                found.reasons[peer.name] = str(error)
                found.figures.pop(peer.name, None)
        else:
            found.figures.setdefault(peer.name, []).append(figure)
            return


def _under(loop: Loop, what: str, peer: Peer, slice_ms: int) -> float:
    with peer.attach(loop.pid):
        Quiet.wait()
        loop.run(what, _WARM_UP_MS)
        return loop.run(what, slice_ms).each_ns
