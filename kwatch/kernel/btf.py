# SPDX-License-Identifier: Apache-2.0
"""Offsets of kernel structure members, from the running kernel's BTF by libbpf."""

from __future__ import annotations

import ctypes
import weakref
from functools import cache
from typing import NamedTuple

from kwatch.errors import KwatchError

_KIND_STRUCT = 4
_KIND_FUNCTION = 12
_VLEN_MASK = 0xFFFF
_KIND_FLAG = 1 << 31

#: The macro that passes each offset to the BPF programs, the structure, and the member with all of
#: its names in different kernels.
OFFSETS = {
    "TASK_PID": ("task_struct", "pid"),
    "TASK_TGID": ("task_struct", "tgid"),
    "TASK_REAL_PARENT": ("task_struct", "real_parent"),
    "TASK_CHILDREN": ("task_struct", "children"),
    "TASK_SIBLING": ("task_struct", "sibling"),
    "TASK_SIGNAL": ("task_struct", "signal"),
    "TASK_GROUP_LEADER": ("task_struct", "group_leader"),
    "TASK_COMM": ("task_struct", "comm"),
    "TASK_EXIT_CODE": ("task_struct", "exit_code"),
    "TASK_START_BOOTTIME": ("task_struct", "start_boottime"),
    "TASK_PENDING": ("task_struct", "pending.signal"),
    "SIGNAL_SHARED_PENDING": ("signal_struct", "shared_pending.signal"),
    "SIGNAL_LIVE": ("signal_struct", "live"),
    "THREAD_INFO_FLAGS": ("task_struct", "thread_info.flags"),
    "THREAD_INFO_WORK": ("task_struct", "thread_info.syscall_work"),
    "SIGNAL_FLAGS": ("signal_struct", "flags"),
    "SIGNAL_EXEC_TASK": ("signal_struct", "group_exec_task", "group_exit_task"),
    "THREAD_INFO_STATUS": ("task_struct", "thread_info.status"),
    "TASK_MM": ("task_struct", "mm"),
    "TASK_UTASK": ("task_struct", "utask"),
    "TASK_STACK": ("task_struct", "stack"),
    "MM_START_STACK": ("mm_struct", "start_stack"),
    "MM_MAPS_TREE": ("mm_struct", "mm_mt.ma_root"),
    "MM_AREAS": ("mm_struct", "mm_rb"),
    "MAPLE_LEAF_SLOTS": ("maple_range_64", "slot"),
    "MAPLE_RANGE_SLOTS": ("maple_arange_64", "slot"),
    "NODE_RIGHT": ("rb_node", "rb_right"),
    "NODE_LEFT": ("rb_node", "rb_left"),
    "AREA_NODE": ("vm_area_struct", "vm_rb"),
    "AREA_START": ("vm_area_struct", "vm_start"),
    "AREA_END": ("vm_area_struct", "vm_end"),
    "AREA_OFFSET": ("vm_area_struct", "vm_pgoff"),
    "AREA_FILE": ("vm_area_struct", "vm_file"),
    "FILE_INODE": ("file", "f_inode"),
    "INODE_NUMBER": ("inode", "i_ino"),
    "INODE_SUPER": ("inode", "i_sb"),
    "INODE_SIZE": ("inode", "i_size"),
    "INODE_MTIME": ("inode", "i_mtime_sec", "__i_mtime.tv_sec", "i_mtime.tv_sec"),
    "INODE_MTIME_NS": ("inode", "i_mtime_nsec", "__i_mtime.tv_nsec", "i_mtime.tv_nsec"),
    "SUPER_DEVICE": ("super_block", "s_dev"),
}

#: Only on x86-64, with uprobes, with generic entry code (Linux 5.11 on x86-64), or with one of the
#: two kinds of trees of mappings.
_NOT_EVERYWHERE = frozenset(
    """
    THREAD_INFO_STATUS THREAD_INFO_WORK TASK_UTASK MM_MAPS_TREE MM_AREAS MAPLE_LEAF_SLOTS
    MAPLE_RANGE_SLOTS AREA_NODE
    """.split()
)


#: Functions and members of task_struct that are asked for while kwatch runs.
_FUNCTIONS = ("__x64_sys_uretprobe", "bpf_iter_task")
_TASK_MEMBERS = tuple(
    """
    pid tgid mm stack sas_ss_sp on_cpu nvcsw nivcsw thread_info.syscall_work
    thread.fsbase thread.uw.tp_value
    """.split()
)


class _Type(ctypes.Structure):
    _fields_ = (
        ("name_off", ctypes.c_uint32),
        ("info", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
    )


class _Member(ctypes.Structure):
    _fields_ = (
        ("name_off", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("offset", ctypes.c_uint32),
    )


@cache
def _libbpf() -> ctypes.CDLL:
    for name in ("libbpf.so.1", "libbpf.so.0", "libbpf.so"):
        try:
            lib = ctypes.CDLL(name)
        except OSError:
            continue
        lib.btf__parse.restype = ctypes.c_void_p
        lib.btf__parse.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
        lib.btf__type_by_id.restype = ctypes.POINTER(_Type)
        lib.btf__name_by_offset.restype = ctypes.c_char_p
        return lib
    raise KwatchError("libbpf is not installed", "install it: apt install libbpf1")


class KernelTypes:
    """The types of the running kernel. Raises KwatchError where the kernel has no BTF."""

    def __init__(self, path: str = "/sys/kernel/btf/vmlinux") -> None:
        self._lib = _libbpf()
        self._btf = ctypes.c_void_p(self._lib.btf__parse(path.encode(), None))
        address = self._btf.value or 0
        if address == 0 or address > (1 << 64) - 4096:
            raise KwatchError(
                f"the kernel's type information cannot be read from {path}",
                "kwatch needs a kernel built with CONFIG_DEBUG_INFO_BTF",
            )
        weakref.finalize(self, self._lib.btf__free, self._btf)  # some 6 MB

    def function(self, name: str) -> int:
        """The id of a function of the kernel; 0 if there is none."""
        found = self._lib.btf__find_by_name_kind(self._btf, name.encode(), _KIND_FUNCTION)
        return max(int(found), 0)

    def offset(self, struct: str, member: str) -> int:
        """Byte offset of `member` (dots descend into nested structures) in `struct`.

        Raises KeyError if there is none.
        """
        kind = self.struct(struct)
        total = 0
        for name in member.split("."):
            bits, kind = self._member(kind, name)
            total += bits // 8
        return total

    def size(self, struct: str) -> int:
        """In bytes. Raises KeyError if there is no such structure."""
        return int(self._lib.btf__type_by_id(self._btf, self.struct(struct)).contents.size)

    def struct(self, name: str) -> int:
        """The id of a structure. Raises KeyError if there is none."""
        kind = int(self._lib.btf__find_by_name_kind(self._btf, name.encode(), _KIND_STRUCT))
        if kind < 0:
            raise KeyError(f"struct {name}")
        return kind

    def _member(self, kind: int, wanted: str) -> tuple[int, int]:
        """Bit offset and type of a member, also one inside an anonymous structure."""
        kind = self._lib.btf__resolve_type(self._btf, kind)
        pointer = self._lib.btf__type_by_id(self._btf, kind)
        info = pointer.contents.info
        first = ctypes.addressof(pointer.contents) + ctypes.sizeof(_Type)
        for member in (_Member * (info & _VLEN_MASK)).from_address(first):
            bits = member.offset & 0xFFFFFF if info & _KIND_FLAG else member.offset
            name = self._lib.btf__name_by_offset(self._btf, member.name_off).decode()
            if name == wanted:
                return bits, member.type
            if not name:
                try:
                    inner, inner_type = self._member(member.type, wanted)
                except KeyError:
                    continue
                return bits + inner, inner_type
        raise KeyError(wanted)

    def offsets(self) -> dict[str, int]:
        """Every offset of OFFSETS; 0 for one that not every kernel has."""
        found = {}
        for macro, (struct, *members) in OFFSETS.items():
            named = (self.find(struct, each) for each in members)
            offset = next((at for at in named if at is not None), None)
            if offset is None and macro not in _NOT_EVERYWHERE:
                raise KwatchError(
                    f"this kernel's {struct} has no {members[-1]}",
                    "please report it with the output of uname -r",
                )
            found[macro] = offset or 0
        return found

    def find(self, struct: str, member: str) -> int | None:
        """The offset; None if there is no such member."""
        try:
            return self.offset(struct, member)
        except KeyError:
            return None


class RuntimeTypes(NamedTuple):
    """`functions`: ids; 0 if there is none. `members`: offsets in task_struct; None if there is
    none. `registers_size`: that of struct pt_regs."""

    functions: dict[str, int]
    members: dict[str, int | None]
    registers_size: int


@cache
def runtime_types() -> RuntimeTypes:
    """What is needed while kwatch runs. To parse all types takes 20 ms.

    Raises KwatchError where the kernel has no BTF.
    """
    types = KernelTypes()
    return RuntimeTypes(
        {name: types.function(name) for name in _FUNCTIONS},
        {name: types.find("task_struct", name) for name in _TASK_MEMBERS},
        types.size("pt_regs"),
    )
