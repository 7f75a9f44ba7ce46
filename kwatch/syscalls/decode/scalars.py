# SPDX-License-Identifier: Apache-2.0
"""Numbers by value: descriptors, modes, signals, devices and the like, from one register."""

from __future__ import annotations

from collections.abc import Callable

Scalar = Callable[[int], str]

_U32, _U64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
AT_FDCWD = -100
_RT_FIRST, _RT_LAST = 32, 64

SIGNALS = dict(
    enumerate(
        """
        HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT
        STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS
        """.split(),
        1,
    )
)


def int32(value: int) -> int:
    return ((value & _U32) ^ 0x80000000) - 0x80000000


def int64(value: int) -> int:
    return ((value & _U64) ^ (1 << 63)) - (1 << 63)


def signal_suffix(number: int) -> str:
    """`INT`, `RTMIN` or `RT_1`; the number for what is no signal."""
    if number == _RT_FIRST:
        return "RTMIN"
    if _RT_FIRST < number <= _RT_LAST:
        return f"RT_{number - _RT_FIRST}"
    return SIGNALS.get(number, str(number))


def signal(value: int) -> str:
    number = int32(value)
    suffix = signal_suffix(number)
    return suffix if suffix == str(number) else f"SIG{suffix}"


def mode(value: int) -> str:
    return f"0{value & _U32:o}".zfill(3) if value & _U32 <= 0o77 else f"0{value & _U32:o}"


_FILE_TYPES = {
    0o140000: "S_IFSOCK",
    0o120000: "S_IFLNK",
    0o100000: "S_IFREG",
    0o060000: "S_IFBLK",
    0o040000: "S_IFDIR",
    0o020000: "S_IFCHR",
    0o010000: "S_IFIFO",
}
_SPECIAL_BITS = ((0o4000, "S_ISUID"), (0o2000, "S_ISGID"), (0o1000, "S_ISVTX"))


def file_mode(value: int) -> str:
    """`S_IFREG|S_ISUID|0755`."""
    bits = value & _U32
    kind = _FILE_TYPES.get(bits & 0o170000)
    if kind is None:
        return mode(bits)
    special = [name for bit, name in _SPECIAL_BITS if bits & bit]
    rest = bits & 0o777 | bits & ~0o177777
    return "|".join([kind, *special, mode(rest)])


def device(value: int) -> str:
    """Linux's 64-bit form of a device number, which begins with the 32-bit one."""
    value &= _U64
    major = value >> 8 & 0xFFF | value >> 32 & 0xFFFFF000
    minor = value & 0xFF | value >> 12 & 0xFFFFFF00
    halves = (f"{half:#x}" if half else "0" for half in (major, minor))
    return f"makedev({', '.join(halves)})"


def identity(value: int) -> str:
    """A user or group: -1 leaves it as it is."""
    number = value & _U32
    return "-1" if number == _U32 else str(number)


def resource_limit(value: int, width: int) -> str:
    """`8192*1024`, or infinity of this many bits."""
    number = value & ((1 << width) - 1)
    if number == (1 << width) - 1:
        return "RLIM64_INFINITY" if width == 64 else "RLIM_INFINITY"
    return f"{number >> 10}*1024" if number > 1024 and number % 1024 == 0 else str(number)


def clock_id(value: int) -> str | None:
    """A clock of a process or descriptor, made of a pid or fd; None for an ordinary one."""
    number = int32(value)
    if number >= 0:
        return None
    kinds = ("PROF", "VIRT", "SCHED")
    if number & 7 == 3:
        return f"FD_TO_CLOCKID({~(number >> 3)})"
    if number & 3 == 3:
        return None
    macro = "MAKE_THREAD_CPUCLOCK" if number & 4 else "MAKE_PROCESS_CPUCLOCK"
    return f"{macro}({~(number >> 3)}, CPUCLOCK_{kinds[number & 3]})"


def directory(value: int) -> str:
    number = int32(value)
    return "AT_FDCWD" if number == AT_FDCWD else str(number)


SCALARS: dict[str, Scalar] = {
    "int": lambda v: str(int32(v)),
    "uint": lambda v: str(v & _U32),
    "hexint": lambda v: f"{v & _U32:#x}" if v & _U32 else "0",
    "hex": lambda v: f"{v & _U64:#x}" if v & _U64 else "0",
    "pid": lambda v: str(int32(v)),
    "tid": lambda v: str(int32(v)),
    "uid": identity,
    "gid": identity,
    "key": lambda v: f"{v & _U32:#x}" if v & _U32 else "IPC_PRIVATE",
    "mode": mode,
    "octal": mode,
    "file_mode": file_mode,
    "signal": signal,
    "dev": device,
    "fd": lambda v: str(int32(v)),
    "dirfd": directory,
    "mapfd": lambda v: str(int32(v)),
    "off": lambda v: str(int64(v)),
}
