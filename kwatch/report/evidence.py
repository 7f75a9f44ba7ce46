# SPDX-License-Identifier: Apache-2.0
"""Makes evidence of growth from an assessment, with the slope in words."""

from __future__ import annotations

from dataclasses import replace

from kwatch.model.growth import Grown, GrowthEvidence, GrowthKind
from kwatch.ownership.growth import Assessment
from kwatch.units import format_count, format_seconds, format_size

#: The units of a slope: name, seconds, and the least slope that is told in it.
_UNITS: tuple[tuple[str, int, float], ...] = (("s", 1, 1.0), ("min", 60, 1.0), ("h", 3600, 0.0))


def growing(what: Grown, subject: str, grown: Assessment, is_size: bool = False) -> GrowthEvidence:
    """Something that grows without an end in sight."""
    sentence = f"{subject} {rate(grown, is_size)} and does not level off"
    return replace(may_grow(what, sentence, grown, is_size), kind=GrowthKind.GROWING)


def may_grow(
    what: Grown, sentence: str, grown: Assessment, is_size: bool = False
) -> GrowthEvidence:
    """Something that has grown, while nobody can tell yet whether it goes on."""
    unit = "bytes" if is_size else "number"
    slope = (grown.slope_per_s, grown.error, grown.seconds)
    return GrowthEvidence(what, GrowthKind.UNKNOWN, sentence, unit, *slope)


def rate(grown: Assessment, is_size: bool = False) -> str:
    """`grows by 1.2 KiB/s ± 70 B/s over 58.0 s`; slow growth is told per minute or hour."""
    unit, per_s, _ = next(each for each in _UNITS if grown.slope_per_s * each[1] >= each[2])
    amounts = (grown.slope_per_s * per_s, grown.error * per_s)
    slope, error = (format_size(round(each)) if is_size else _number(each) for each in amounts)
    return f"grows by {slope}/{unit} ± {error}/{unit} over {format_seconds(grown.seconds)}"


def _number(amount: float) -> str:
    return format_count(round(amount)) if amount >= 10 else f"{amount:.1f}"
