# SPDX-License-Identifier: Apache-2.0
"""The small services in programs/: each serves as many requests as a line on its input says."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from confusion.service import Running

PROGRAMS = Path(__file__).with_name("programs")
_REQUESTS = 50  # in one load
_WARM_UP = 20  # loads before kwatch looks

#: How a source becomes a command; {source} and {out} are filled in.
_BUILDS = {
    ".c": "gcc -g -O1 -fno-builtin -pthread -o {out}/service {source} -ldl",
    ".cpp": "g++ -g -O1 -o {out}/service {source}",
    ".rs": "rustc -g -C opt-level=1 -o {out}/service {source}",
    ".go": "go build -o {out}/service {source}",
    ".java": "javac -d {out} {source}",
}
_INTERPRETERS = {".py": ["python3"], ".js": ["node"]}


class Spoken:
    """A running program. It answers each line with `held N`."""

    def __init__(self, command: Sequence[str], directory: Path) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=directory
        )
        self._held = 0

    @property
    def pids(self) -> tuple[int, ...]:
        return (self._process.pid,)

    def load(self) -> None:
        self._ask(_REQUESTS)

    def held(self) -> int:
        return self._held

    def _ask(self, requests: int) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{requests}\n")
        self._process.stdin.flush()
        word, _, count = self._process.stdout.readline().partition(" ")
        if word != "held":
            raise RuntimeError(f"the service answered {word!r}")
        self._held = int(count)

    def end(self) -> None:
        """Its end of input is the end of the service."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)


class Idle(Spoken):
    """A service that waits for input and gets none."""

    def load(self) -> None:
        return


def spoken(
    source: str,
    *arguments: str,
    kind: type[Spoken] = Spoken,
    options: Sequence[str] = (),
    first_seen: bool = False,
) -> Callable[[Path], AbstractContextManager[Running]]:
    """`options` belong to the interpreter, `arguments` to the program.

    `first_seen`: kwatch sees the first request.
    """

    @contextmanager
    def start(directory: Path) -> Iterator[Running]:
        command = [*_command(PROGRAMS / source, directory, options), *arguments]
        service = kind(command, directory)
        try:
            for _ in range(0 if first_seen else _WARM_UP):
                service.load()
            yield service
        finally:
            service.end()

    return start


def _command(source: Path, directory: Path, options: Sequence[str]) -> list[str]:
    interpreter = _INTERPRETERS.get(source.suffix)
    if interpreter:
        return [*interpreter, *options, str(source)]
    library = source.with_name(f"{source.stem}_library.c")
    if library.exists():
        build = ["gcc", "-g", "-shared", "-fPIC", "-o", str(directory / "libstore.so")]
        subprocess.run([*build, str(library)], check=True)
    command = _BUILDS[source.suffix].format(source=source, out=directory).split()
    if library.exists():
        command += [str(directory / "libstore.so")]
    if shutil.which(command[0]) is None:
        raise RuntimeError(f"{command[0]} is not installed")
    subprocess.run(command, check=True, cwd=directory)
    if source.suffix == ".java":
        return ["java", *options, "-cp", str(directory), source.stem]
    return [str(directory / "service")]
