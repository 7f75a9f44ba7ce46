# SPDX-License-Identifier: Apache-2.0
"""Pages of this process that stay missing until it fills them: whoever touches one waits.

userfaultfd(2). The wait of the kernel itself, in copy_to_user(), ends when the page is filled, the
descriptor is closed or the thread is killed: handle_userfault() in linux fs/userfaultfd.c. Since
Linux 5.7 (commits c270a7eedcf2, 4064b9827063) such a thread must get no other signal, and must not
be stopped: it would never sleep again, and take a whole CPU. fault_signal_pending() ends the fault
only for fatal signals, and an interruptible sleep with any other signal pending is none.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import select
import struct

from kwatch.errors import KwatchError
from kwatch.kernel.privileges import cure_of
from kwatch.kernel.syscall import syscall

_DEVICE = "/dev/userfaultfd"
_DEVICE_NEW = 0xAA00  # USERFAULTFD_IOC_NEW: Linux 6.1, commit 2d5de004e009
_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK
_API, _REGISTER, _ZERO_PAGE = 0xC018AA3F, 0xC020AA00, 0xC020AA04
_API_VERSION = 0xAA
_MISSING = 1
_EVENT = struct.Struct("B7xQQ8x")  # struct uffd_msg: event, flags, address
_EVENT_PAGEFAULT = 0x12
_MAX_EVENTS = 16


class MissingPages:
    """`count` pages that are missing at first. Raises KwatchError if the kernel refuses."""

    def __init__(self, count: int) -> None:
        self._fd = _opened()
        self._pages = mmap.mmap(-1, count * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._start = ctypes.addressof(ctypes.c_char.from_buffer(self._pages))
        try:
            fcntl.ioctl(self._fd, _API, bytearray(struct.pack("QQQ", _API_VERSION, 0, 0)))
            area = struct.pack("QQQQ", self._start, len(self._pages), _MISSING, 0)
            fcntl.ioctl(self._fd, _REGISTER, bytearray(area))
        except OSError as error:
            os.close(self._fd)
            raise _refused(error) from error

    def address(self, page: int) -> int:
        return self._start + page * mmap.PAGESIZE

    def touched(self, seconds: float, other: int) -> list[int]:
        """The pages for which threads have begun to wait; after at most `seconds`, and at once when
        the descriptor `other` is readable.
        """
        if self._fd not in select.select([self._fd, other], [], [], seconds)[0]:
            return []
        try:
            events = os.read(self._fd, _MAX_EVENTS * _EVENT.size)
        except BlockingIOError:  # the thread waits no more
            return []
        return [
            (address - self._start) // mmap.PAGESIZE
            for event, _, address in _EVENT.iter_unpack(events)
            if event == _EVENT_PAGEFAULT
        ]

    def fill(self, page: int) -> None:
        """Ends the wait for a page."""
        area = struct.pack("QQQq", self.address(page), mmap.PAGESIZE, 0, 0)
        try:
            fcntl.ioctl(self._fd, _ZERO_PAGE, bytearray(area))
        except OSError as error:
            if error.errno != errno.EEXIST:  # filled already
                raise

    def empty(self, page: int) -> None:
        """Makes a page missing again."""
        self._pages.madvise(mmap.MADV_DONTNEED, page * mmap.PAGESIZE, mmap.PAGESIZE)

    def close(self) -> None:
        """Ends all waits."""
        os.close(self._fd)


def _opened() -> int:
    try:
        return syscall("userfaultfd", _FLAGS)
    except OSError as error:
        refused = error
    try:  # where system calls are filtered, or the sysctl and the capabilities forbid it
        device = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        raise _refused(refused) from refused
    try:
        return fcntl.ioctl(device, _DEVICE_NEW, _FLAGS)
    except OSError as error:
        raise _refused(error) from error
    finally:
        os.close(device)


def _refused(error: OSError) -> KwatchError:
    what = f"userfaultfd is refused: {error.strerror}"
    if error.errno == errno.ENOSYS:
        return KwatchError(what, "use a kernel built with CONFIG_USERFAULTFD")
    if error.errno in (errno.EPERM, errno.EACCES):
        cure = "allow userfaultfd in seccomp profiles and SELinux, or add CAP_SYS_PTRACE"
        return KwatchError(what, cure)
    return KwatchError(what, cure_of(error))
