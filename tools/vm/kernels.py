# SPDX-License-Identifier: Apache-2.0
"""The list of kernels, and the differences between their architectures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kwatch.syscalls.names import all_names, number
from kwatch.wire.events import Abi

CHECKOUT = Path(__file__).resolve().parents[2]
LIST = CHECKOUT / "tests" / "kernels.txt"


@dataclass(frozen=True, slots=True)
class Architecture:
    """The names of an architecture: `debian`'s, the kernel's (`machine`), gcc's (`triple`)."""

    debian: str
    machine: str
    triple: str
    emulator: tuple[str, ...]
    console: str


# cortex-a57 boots five times as fast as `max`, whose pointer authentication is emulated.
ARCHITECTURES = {
    "arm64": Architecture(
        "arm64",
        "aarch64",
        "aarch64-linux-gnu",
        ("qemu-system-aarch64", "-M", "virt,gic-version=3", "-cpu", "cortex-a57"),
        "ttyAMA0",
    ),
    "amd64": Architecture(
        "amd64",
        "x86_64",
        "x86_64-linux-gnu",
        ("qemu-system-x86_64", "-M", "q35", "-cpu", "max"),
        "ttyS0",
    ),
}


#: The ABIs whose system calls the kernels of a machine have.
_ABIS = {
    "aarch64": (Abi.AARCH64, Abi.ARM),
    "x86_64": (Abi.X86_64, Abi.I386, Abi.X32),
}


def names_of(machine: str) -> frozenset[str]:
    """The system calls that a machine's kernels have."""
    return frozenset(
        name for name in all_names() if any(number(abi, name) is not None for abi in _ABIS[machine])
    )


@dataclass(frozen=True, slots=True)
class Kernel:
    """One line of the list; `kernel` and `userland` are suites of the distribution.

    `short`: CI boots it.
    """

    name: str
    architecture: Architecture
    kernel: str
    userland: str
    box: str
    short: bool


def kernels() -> list[Kernel]:
    """All kernels in the order of the list. Raises ValueError for a malformed line."""
    lines = [line.split() for line in LIST.read_text().splitlines() if not line.startswith("#")]
    found = []
    for fields in filter(None, lines):
        if len(fields) < 5 or fields[1] not in ARCHITECTURES or fields[5:] not in ([], ["short"]):
            raise ValueError(f"{LIST}: not a kernel: {' '.join(fields)}")
        name, architecture, kernel, userland, box, *short = fields
        found.append(Kernel(name, ARCHITECTURES[architecture], kernel, userland, box, bool(short)))
    return found
