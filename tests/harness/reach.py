# SPDX-License-Identifier: Apache-2.0
"""The classes that kwatch reports, block by block."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.blocks import CLASSES, NamedBlock
from harness.lines import DEADLINE

Document = dict[str, Any]
#: A block, the class that it must have, and the one that kwatch reports; None if it is not there.
Difference = tuple[NamedBlock, str, str | None]


def leaks(pid: int, *options: str) -> Document:
    """What `kwatch leaks` says of a process."""
    command = [sys.executable, "-m", "kwatch", "leaks", "--pid", str(pid), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr
    document: Document = json.loads(done.stdout)
    return document


def searched(pid: int) -> dict[int, str]:
    """The class of each block of a process that is not traced, by address."""
    blocks = leaks(pid, "--blocks")["heap"]["blocks"]
    return {int(block["address"], 16): block["class"] for block in blocks}


def differences(
    blocks: Sequence[NamedBlock], reported: Mapping[int, str], known: Mapping[str, str]
) -> Iterator[Difference]:
    """`known`: the classes of blocks that are not as the program expects, by name."""
    for block in blocks:
        expected = known.get(block.name, block.expected)
        if (found := reported.get(block.address)) != expected:
            yield block, expected, found


def stack_differences(
    blocks: Sequence[NamedBlock], stacks: Sequence[Document], known: Mapping[str, str]
) -> Iterator[tuple[list[NamedBlock], Counter[str], Counter[str]]]:
    """The same of a report, which has the number of blocks of each class for each stack.

    A stack allocates the blocks of one line, at most 16 of them.
    """
    by_address = {block.address: block for block in blocks}
    for stack in stacks:
        found = [by_address.pop(int(address, 16), None) for address in stack["addresses"]]
        own = [block for block in found if block is not None]
        if not own:
            continue
        expected = Counter(known.get(block.name, block.expected) for block in own)
        reported = Counter({name: stack["reach"][name] for name in CLASSES})
        if +reported != expected or len(own) != len(found):
            yield own, expected, +reported
    if by_address:
        yield list(by_address.values()), Counter(), Counter()
