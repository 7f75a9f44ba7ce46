# SPDX-License-Identifier: Apache-2.0
"""Names and numbers of errors: those of x86-64 and arm64 are the same."""

from __future__ import annotations

import errno

#: Every error by name, with second names such as EWOULDBLOCK. Python before 3.14 lacks EHWPOISON.
ERRNOS: dict[str, int] = {
    **{name: getattr(errno, name) for name in dir(errno) if name.startswith("E")},
    "EHWPOISON": 133,
}

#: The name that strace prints for each number.
ERRNO_NAMES = {**errno.errorcode, 35: "EDEADLK", 95: "EOPNOTSUPP", 133: "EHWPOISON"}

#: A result from -MAX_ERRNO to -1 is an error: include/linux/err.h.
MAX_ERRNO = 4095
