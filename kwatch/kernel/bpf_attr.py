# SPDX-License-Identifier: Apache-2.0
"""The arguments of bpf(2): the parts of union bpf_attr that kwatch uses (linux/bpf.h)."""

from __future__ import annotations

import ctypes

_U32, _U64 = ctypes.c_uint32, ctypes.c_uint64
_NAME = ctypes.c_char * 16


class MapCreate(ctypes.Structure):
    """BPF_MAP_CREATE."""

    _fields_ = (
        ("map_type", _U32),
        ("key_size", _U32),
        ("value_size", _U32),
        ("max_entries", _U32),
        ("map_flags", _U32),
        ("inner_map_fd", _U32),
        ("numa_node", _U32),
        ("map_name", _NAME),
    )


class MapElement(ctypes.Structure):
    """BPF_MAP_*_ELEM; BPF_MAP_GET_NEXT_KEY writes the next key to `value`."""

    _fields_ = (("map_fd", _U32), ("key", _U64), ("value", _U64), ("flags", _U64))


class MapBatch(ctypes.Structure):
    """BPF_MAP_*_BATCH."""

    _fields_ = (
        ("in_batch", _U64),
        ("out_batch", _U64),
        ("keys", _U64),
        ("values", _U64),
        ("count", _U32),
        ("map_fd", _U32),
        ("elem_flags", _U64),
        ("flags", _U64),
    )


class ProgLoad(ctypes.Structure):
    """BPF_PROG_LOAD."""

    _fields_ = (
        ("prog_type", _U32),
        ("insn_cnt", _U32),
        ("insns", _U64),
        ("license", _U64),
        ("log_level", _U32),
        ("log_size", _U32),
        ("log_buf", _U64),
        ("kern_version", _U32),
        ("prog_flags", _U32),
        ("prog_name", _NAME),
        ("prog_ifindex", _U32),
        ("expected_attach_type", _U32),
        ("prog_btf_fd", _U32),
        ("func_info_rec_size", _U32),
        ("func_info", _U64),
        ("func_info_cnt", _U32),
        ("line_info_rec_size", _U32),
        ("line_info", _U64),
        ("line_info_cnt", _U32),
        ("attach_btf_id", _U32),
    )


class ProgTestRun(ctypes.Structure):
    """BPF_PROG_TEST_RUN."""

    _fields_ = (
        ("prog_fd", _U32),
        ("retval", _U32),
        ("data_size_in", _U32),
        ("data_size_out", _U32),
        ("data_in", _U64),
        ("data_out", _U64),
        ("repeat", _U32),
        ("duration", _U32),
        ("ctx_size_in", _U32),
        ("ctx_size_out", _U32),
        ("ctx_in", _U64),
        ("ctx_out", _U64),
        ("flags", _U32),
        ("cpu", _U32),
    )


class RawTracepoint(ctypes.Structure):
    """BPF_RAW_TRACEPOINT_OPEN."""

    _fields_ = (("name", _U64), ("prog_fd", _U32))


class UprobeLink(ctypes.Structure):
    """BPF_LINK_CREATE with BPF_TRACE_UPROBE_MULTI."""

    _fields_ = (
        ("prog_fd", _U32),
        ("target_fd", _U32),
        ("attach_type", _U32),
        ("link_flags", _U32),
        ("path", _U64),
        ("offsets", _U64),
        ("ref_ctr_offsets", _U64),
        ("cookies", _U64),
        ("cnt", _U32),
        ("flags", _U32),
        ("pid", _U32),
    )


class PerfLink(ctypes.Structure):
    """BPF_LINK_CREATE with BPF_PERF_EVENT."""

    _fields_ = (
        ("prog_fd", _U32),
        ("target_fd", _U32),
        ("attach_type", _U32),
        ("link_flags", _U32),
        ("cookie", _U64),
    )


class TaskIteratorLink(ctypes.Structure):
    """BPF_LINK_CREATE with BPF_TRACE_ITER."""

    _fields_ = (
        ("prog_fd", _U32),
        ("target_fd", _U32),
        ("attach_type", _U32),
        ("link_flags", _U32),
        ("info", _U64),
        ("info_len", _U32),
    )


class TaskIteratorInfo(ctypes.Structure):
    """The part of union bpf_iter_link_info that selects tasks (Linux 6.1)."""

    _fields_ = (("tid", _U32), ("pid", _U32), ("pid_fd", _U32), ("reserved", _U32))


class IteratorCreate(ctypes.Structure):
    """BPF_ITER_CREATE."""

    _fields_ = (("link_fd", _U32), ("flags", _U32))


class InfoByFd(ctypes.Structure):
    """BPF_OBJ_GET_INFO_BY_FD."""

    _fields_ = (("bpf_fd", _U32), ("info_len", _U32), ("info", _U64))


class MapInfo(ctypes.Structure):
    """The beginning of struct bpf_map_info."""

    _fields_ = (
        ("type", _U32),
        ("id", _U32),
        ("key_size", _U32),
        ("value_size", _U32),
        ("max_entries", _U32),
        ("map_flags", _U32),
    )
