# SPDX-License-Identifier: Apache-2.0
"""What a command will map, told before it runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from kwatch.targets.launch import program_files


def test_libraries_beside_a_program_that_is_called_by_a_link(tmp_path: Path) -> None:
    """As Java is installed: $ORIGIN is where the program is, not where the link is."""
    program, library = tmp_path / "jdk/bin/program", tmp_path / "jdk/lib/libown.so"
    for file in (program, library):
        file.parent.mkdir(parents=True)
    compiler = ["gcc", "-x", "c", "-"]
    subprocess.run([*compiler, "-shared", "-o", library], input=b"int own;", check=True)
    source = b"extern int own; int main(void) { return own; }"
    options = ["-o", program, "-L", library.parent, "-Wl,-rpath,$ORIGIN/../lib"]
    subprocess.run([*compiler, *options, "-x", "none", "-lown"], input=source, check=True)
    link = tmp_path / "bin" / "program"
    link.parent.mkdir()
    link.symlink_to(program)

    found = program_files(str(link))

    assert str(program) in found
    assert str(library) in found
    assert any(os.path.basename(file).startswith("libc.so") for file in found)
