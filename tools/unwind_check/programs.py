# SPDX-License-Identifier: Apache-2.0
"""The checked programs: public commands that end by themselves."""

from __future__ import annotations

import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

_INPUTS = Path(__file__).with_name("inputs")


@dataclass(frozen=True, slots=True)
class Checked:
    """`needs`: a command on PATH; `beside`: a shell script that runs at the same time.

    `truncated_because`: why most of its stacks are truncated.
    """

    name: str
    needs: str
    command: str
    beside: str = ""
    build: str = ""
    truncated_because: str = ""

    @property
    def is_missing(self) -> bool:
        return shutil.which(self.needs) is None


def _free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def programs(d: Path) -> list[Checked]:
    """All programs; they write their output into the directory."""
    inputs = _INPUTS
    port = _free_port()
    configuration = (inputs / "nginx.conf").read_text()
    (d / "nginx.conf").write_text(configuration.replace("@PORT", str(port)).replace("@", str(d)))
    redis = f"redis-cli -s {d}/redis.sock"
    page = f"http://127.0.0.1:{port}/"
    asked = f"until curl -s {page} >{d}/answer; do :; done; ab -q -n 2000 -c 8 {page}doc/ >{d}/ab"
    key = f"-newkey rsa:1024 -nodes -subj /CN=a -keyout {d}/key -out {d}/certificate"
    return [
        Checked("bash", "bash", f"bash {inputs}/functions.sh"),
        Checked("perl", "perl", f"perl {inputs}/data.pl"),
        Checked(
            "python3, imports",
            "python3",
            f"env PYTHONMALLOC=malloc /usr/bin/python3 -S {inputs}/imports.py",
        ),
        Checked("cc1plus", "g++", f"g++ -O1 -c -o {d}/threads.o {inputs}/threads.cpp"),
        Checked("openssl", "openssl", f"openssl req -x509 {key}"),
        Checked("git", "git", f"git log -p -n 20 --stat --output={d}/log"),
        Checked("sqlite3", "sqlite3", f"sqlite3 -init {inputs}/queries.sql :memory: .quit"),
        Checked(
            "C++ with threads",
            "g++",
            f"{d}/cxx",
            build=f"g++ -O2 -pthread -o {d}/cxx {inputs}/threads.cpp",
        ),
        Checked(
            "Rust with threads",
            "rustc",
            f"{d}/rust",
            build=f"rustc -O -o {d}/rust {inputs}/threads.rs",
        ),
        Checked("rustc", "rustc", f"rustc --emit=metadata --out-dir {d} {inputs}/threads.rs"),
        Checked(
            "Go with cgo",
            "go",
            f"{d}/go",
            build=f"go build -o {d}/go {inputs}/cgo.go",
            truncated_because="Go's compiler writes no .eh_frame",
        ),
        Checked(
            "nginx",
            "nginx",
            f"nginx -c {d}/nginx.conf",
            f"{asked}; kill -QUIT $(cat {d}/nginx.pid)",
        ),
        Checked(
            "redis",
            "redis-server",
            f"redis-server --port 0 --unixsocket {d}/redis.sock --save '' --daemonize no",
            f"until {redis} ping >{d}/answer 2>&1; do :; done; "
            f"redis-benchmark -q -s {d}/redis.sock -n 200 -c 4 >{d}/answer; "
            f"{redis} shutdown nosave",
        ),
    ]
