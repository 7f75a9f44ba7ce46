# SPDX-License-Identifier: Apache-2.0
"""Files that are there whole or not at all, in folders where others may plant links."""

from __future__ import annotations

import contextlib
import os
import secrets

#: What the name of an unfinished file ends in.
UNFINISHED = ".new"


def create_beside(name: str, mode: int, folder: int | None = None) -> tuple[int, str]:
    """A new file, open for writing, and its name, which nobody can have guessed.

    `folder` is what a relative name counts from, as in open(). Raises OSError.
    """
    stem, suffix = os.path.splitext(name)
    unfinished = f"{stem}-{secrets.token_hex(8)}{suffix}{UNFINISHED}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(unfinished, flags, mode, dir_fd=folder), unfinished


def write_atomically(name: str, data: bytes, mode: int, folder: int | None = None) -> None:
    """Puts a new file in the place of the one of this name, which may be read meanwhile."""
    fd, unfinished = create_beside(name, mode, folder)
    try:
        with open(fd, "wb") as file:
            file.write(data)
        os.replace(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished, dir_fd=folder)
        raise
