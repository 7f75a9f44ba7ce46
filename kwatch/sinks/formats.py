# SPDX-License-Identifier: Apache-2.0
"""The formats of heap profiles. The command line, the output and the documents read this table."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from kwatch.sinks.profiles.unit import Format


@dataclass(frozen=True, slots=True)
class ProfileFormat:
    """One row: `--NAME FILE` writes what `function`, a `module:name`, makes of the profiles."""

    name: str
    help: str
    function: str

    def load(self) -> Format:
        """The function, imported now: some formats take heavy libraries."""
        return cast("Format", pkgutil.resolve_name(f"kwatch.sinks.profiles.{self.function}"))


PROFILE_FORMATS = (
    ProfileFormat(
        "flamegraph",
        "write a flame graph, one HTML page that needs no network",
        "flamegraph:flamegraph",
    ),
    ProfileFormat(
        "pprof", "write outstanding and allocated bytes and blocks for pprof", "pprof:pprof"
    ),
    ProfileFormat("speedscope", "write JSON for speedscope.app", "speedscope:speedscope"),
    ProfileFormat("folded", "write outstanding bytes by stack for flamegraph.pl", "folded:folded"),
)
