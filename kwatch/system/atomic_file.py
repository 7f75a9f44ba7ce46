# SPDX-License-Identifier: Apache-2.0
"""Files that appear complete or not at all, even in folders where others may plant links."""

from __future__ import annotations

import contextlib
import os
import secrets

#: The suffix of an unfinished file.
UNFINISHED = ".new"


def create_beside(name: str, mode: int, folder: int | None = None) -> tuple[int, str]:
    """Creates a file with an unpredictable name; returns its descriptor and the name.

    A relative name is relative to `folder`, as in open(). Raises OSError.
    """
    stem, suffix = os.path.splitext(name)
    unfinished = f"{stem}-{secrets.token_hex(8)}{suffix}{UNFINISHED}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(unfinished, flags, mode, dir_fd=folder), unfinished


def write_atomically(name: str, data: bytes, mode: int, folder: int | None = None) -> None:
    """Replaces a file, which others may read meanwhile. Raises OSError."""
    fd, unfinished = create_beside(name, mode, folder)
    try:
        with open(fd, "wb") as file:
            file.write(data)
        os.replace(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished, dir_fd=folder)
        raise
