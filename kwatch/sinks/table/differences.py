# SPDX-License-Identifier: Apache-2.0
"""Tells the stacks of one table apart where their lines read the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from kwatch.model.frame import Frame
from kwatch.model.frame_roles import relevant_frames
from kwatch.sinks.table.stacks import NO_MARKS, Marks

_MAX_MARKS = 4  # per stack; each is a line that may not have been shown without it


class _Listed(Protocol):
    @property
    def frames(self) -> tuple[Frame, ...]: ...


_Stack = TypeVar("_Stack", bound=_Listed)


def distinct_texts(stacks: Sequence[_Stack], render: Callable[[_Stack, Marks], str]) -> list[str]:
    """The text of each stack. Where texts are the same, addresses that differ are marked."""
    marks = [NO_MARKS] * len(stacks)
    texts = [render(stack, NO_MARKS) for stack in stacks]
    for _ in range(_MAX_MARKS):
        added = {
            index: address
            for alike in _alike(texts)
            for index, address in _differences(alike, stacks, marks)
        }
        if not added:
            break
        for index, address in added.items():
            marks[index] |= {address}
            texts[index] = render(stacks[index], marks[index])
    return texts


def _alike(texts: Iterable[str]) -> list[list[int]]:
    """The indexes of texts that occur more than once, text by text."""
    indexes: dict[str, list[int]] = defaultdict(list)
    for index, text in enumerate(texts):
        indexes[text].append(index)
    return [alike for alike in indexes.values() if len(alike) > 1]


def _differences(
    alike: Sequence[int], stacks: Sequence[_Stack], marks: Sequence[Marks]
) -> Iterable[tuple[int, int]]:
    """For each of these stacks the innermost address that is not in all of them."""
    addresses = [{frame.address for frame in stacks[index].frames} for index in alike]
    common = set.intersection(*addresses)
    for index in alike:
        frames, known = stacks[index].frames, common | marks[index]
        ordered = [*relevant_frames(frames), *frames]
        address = next((f.address for f in ordered if f.address not in known), None)
        if address is not None:
            yield index, address
