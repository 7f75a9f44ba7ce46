# SPDX-License-Identifier: Apache-2.0
"""Names of io_uring's operations and flags: include/uapi/linux/io_uring.h, Linux 6.18."""

from __future__ import annotations

from collections.abc import Sequence

from kwatch.syscalls.decode.results import MAX_ERRNO, error_texts
from kwatch.wire.events import Abi

#: A completion whose request was not seen.
UNKNOWN_OPCODE = 0xFFFF

#: By number.
OPERATIONS = tuple(
    """
    nop readv writev fsync read_fixed write_fixed poll_add poll_remove sync_file_range sendmsg
    recvmsg timeout timeout_remove accept async_cancel link_timeout connect fallocate openat close
    files_update statx read write fadvise madvise send recv openat2 epoll_ctl splice
    provide_buffers remove_buffers tee shutdown renameat unlinkat mkdirat symlinkat linkat msg_ring
    fsetxattr setxattr fgetxattr getxattr socket uring_cmd send_zc sendmsg_zc read_multishot waitid
    futex_wait futex_wake futex_waitv fixed_fd_install ftruncate bind listen recv_zc epoll_wait
    readv_fixed writev_fixed pipe
    """.split()
)
_FLAGS = tuple(
    "FIXED_FILE IO_DRAIN IO_LINK IO_HARDLINK ASYNC BUFFER_SELECT CQE_SKIP_SUCCESS".split()
)
_CQE_FLAGS = ("BUFFER", "MORE", "SOCK_NONEMPTY", "NOTIF", "BUF_MORE")
_BUFFER_SHIFT = 16  # of the number of the buffer that the kernel has chosen


def operation(number: int) -> str:
    """`read`; `op_99` for one that is not known, `?` for a request that was not seen."""
    if number == UNKNOWN_OPCODE:
        return "?"
    return OPERATIONS[number] if number < len(OPERATIONS) else f"op_{number}"


def request_name(number: int) -> str:
    return f"io_uring:{operation(number)}"


def request_text(abi: int, words: Sequence[int], result: int) -> tuple[str, str]:
    """What stands between the parentheses, and the result.

    `words`: the user data, the flags, and those of the completion.
    """
    user_data, flags, cqe_flags = words[:3]
    parts = [f"user_data={user_data:#x}"]
    if flags:
        parts.append(f"flags={_named(flags, _FLAGS, 'IOSQE_')}")
    if cqe_flags:
        parts.append(f"cqe_flags={_completion(cqe_flags)}")
    has_failed = -MAX_ERRNO <= result < 0
    return ", ".join(parts), error_texts(Abi(abi))[result] if has_failed else str(result)


def _completion(flags: int) -> str:
    buffer = f"|{flags >> _BUFFER_SHIFT}<<IORING_CQE_BUFFER_SHIFT" if flags & 1 else ""
    low = flags & ((1 << _BUFFER_SHIFT) - 1) if flags & 1 else flags
    return _named(low, _CQE_FLAGS, "IORING_CQE_F_") + buffer


def _named(flags: int, names: tuple[str, ...], prefix: str) -> str:
    known = [f"{prefix}{name}" for bit, name in enumerate(names) if flags >> bit & 1]
    rest = flags >> len(names) << len(names)
    return "|".join([*known, *[f"{rest:#x}"] * bool(rest)])
