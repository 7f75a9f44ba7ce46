# SPDX-License-Identifier: Apache-2.0
"""The general-purpose registers of a thread: where the kernel and perf keep each of them.

Sources: struct pt_regs (arch/x86/include/asm/ptrace.h, arch/arm64/include/asm/ptrace.h), whose
beginning NT_PRSTATUS has too, and enum perf_event_*_regs (arch/*/include/uapi/asm/perf_regs.h).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from kwatch.kernel.syscall import machine

_X0_TO_X30 = " ".join(f"x{number}" for number in range(31))
_SAVED = {
    "x86_64": "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags "
    "rsp ss",
    "aarch64": f"{_X0_TO_X30} sp pc pstate orig_x0 syscallno",
}
_SAMPLED = {
    "x86_64": "rax rbx rcx rdx rsi rdi rbp rsp rip eflags cs ss ds es fs gs r8 r9 r10 r11 r12 r13 "
    "r14 r15",
    "aarch64": f"{_X0_TO_X30} sp pc",
}
#: None of these holds a pointer to data.
_SPECIAL = "orig_rax rip cs eflags ss pc pstate orig_x0 syscallno".split()
_STACK_POINTER = {"x86_64": "rsp", "aarch64": "sp"}
_PC = {"x86_64": "rip", "aarch64": "pc"}


@dataclass(frozen=True, slots=True)
class RegisterSet:
    """`names`: the registers that can hold a pointer, the stack pointer too.

    `saved`: all registers in the order of struct pt_regs, each a word. `sampled`: by perf's number.
    """

    names: tuple[str, ...]
    stack_pointer: str
    pc: str
    saved: tuple[str, ...]
    sampled: tuple[str, ...]

    @property
    def places(self) -> list[int]:
        """Which words of struct pt_regs hold `names`."""
        return [self.saved.index(name) for name in self.names]

    @property
    def position(self) -> list[int]:
        """The words of struct pt_regs that are 0 in a thread of the kernel's own (copy_thread)."""
        return [self.saved.index(self.stack_pointer), self.saved.index(self.pc)]

    @property
    def sample_mask(self) -> int:
        """What perf is asked for, so that it samples `names`."""
        return sum(1 << self.sampled.index(name) for name in self.names)

    @property
    def sample_order(self) -> list[int]:
        """Which words of a sample hold `names`: perf has them in the order of their numbers."""
        numbers = [self.sampled.index(name) for name in self.names]
        return [sorted(numbers).index(number) for number in numbers]


@cache
def registers() -> RegisterSet:
    """Those of this machine."""
    saved, sampled = _SAVED[machine()].split(), _SAMPLED[machine()].split()
    names = tuple(name for name in saved if name not in _SPECIAL)
    return RegisterSet(
        names, _STACK_POINTER[machine()], _PC[machine()], tuple(saved), tuple(sampled)
    )
