# SPDX-License-Identifier: Apache-2.0
"""nginx, which reloads under load, and an application under uvicorn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psutil

from confusion.service import Running
from confusion.spoken import PROGRAMS
from confusion.waiting import free_port, is_listening, server, until

_REQUIREMENTS = Path(__file__).with_name("requirements.txt")
_RELOAD_AFTER = 10  # loads

_CONFIG = """\
worker_processes 2;
daemon off;
pid {directory}/nginx.pid;
events {{ worker_connections 256; }}
http {{
	access_log {directory}/access.log;
	client_body_temp_path {directory}/body;
	proxy_temp_path {directory}/proxy;
	fastcgi_temp_path {directory}/fastcgi;
	uwsgi_temp_path {directory}/uwsgi;
	scgi_temp_path {directory}/scgi;
	server {{ listen 127.0.0.1:{port}; root {directory}; }}
}}
"""


class _Nginx:
    def __init__(self, master: int, port: int) -> None:
        workers = [child.pid for child in psutil.Process(master).children()]
        self.pids = (master, *workers)
        self._port = port
        self._loads = 0

    def load(self) -> None:
        """All requests must succeed, also while the workers change."""
        self._loads += 1
        if self._loads % _RELOAD_AFTER == 0:
            os.kill(self.pids[0], signal.SIGHUP)
        url = f"http://127.0.0.1:{self._port}/page"
        command = ["ab", "-q", "-n", "200", "-c", "4", url]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    def held(self) -> int:
        return 0


@contextmanager
def nginx(directory: Path) -> Iterator[Running]:
    port = free_port()
    directory.chmod(0o755)  # the workers run as another user
    (directory / "page").write_text("a page\n" * 100)
    config = directory / "nginx.conf"
    config.write_text(_CONFIG.format(directory=directory, port=port))
    command = ["nginx", "-c", str(config), "-e", str(directory / "error.log")]
    with server(command, directory) as process:
        until(lambda: is_listening(port), "nginx listens")
        yield _Nginx(process.pid, port)


class _Uvicorn:
    def __init__(self, pid: int, port: int, path: str) -> None:
        self.pids = (pid,)
        self._url = f"http://127.0.0.1:{port}"
        self._path = path

    def load(self) -> None:
        for _ in range(20):
            self._get(self._path)

    def held(self) -> int:
        return int(self._get("/held"))

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self._url + path, timeout=20) as answer:
            content: bytes = answer.read()
        return content


def uvicorn(path: str) -> Callable[[Path], AbstractContextManager[Running]]:
    @contextmanager
    def start(directory: Path) -> Iterator[Running]:
        packages = directory / "packages"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--target", str(packages), "-r", str(_REQUIREMENTS)], check=True)
        port = free_port()
        environment = {**os.environ, "PYTHONPATH": str(packages)}
        options = ["--app-dir", str(PROGRAMS), "--port", str(port), "--log-level", "warning"]
        command = [sys.executable, "-m", "uvicorn", *options, "app:app"]
        with server(command, directory, environment) as process:
            until(lambda: is_listening(port), "uvicorn listens")
            service = _Uvicorn(process.pid, port, path)
            for _ in range(10):
                service.load()
            yield service

    return start
