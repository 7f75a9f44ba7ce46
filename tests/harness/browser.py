# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, driven over its DevTools protocol on a pair of pipes, with no network."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from harness.lines import DEADLINE
from harness.requirements import browser_command

#: Uses no profile of the user and fetches nothing. Root needs --no-sandbox; /dev/shm may be small.
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
    "--window-size=1200,800",
)

#: Chromium reads commands from descriptor 3 and writes answers to 4, each ended by a NUL.
_LAUNCH = (
    "import os, sys; r, w = map(int, sys.argv[1:3]); "
    "os.dup2(r, 3); os.dup2(w, 4); os.execvp(sys.argv[3], sys.argv[3:])"
)


class Browser:
    """One page, opened from a file. `requests`: the URLs that the page has requested."""

    def __init__(self, page: Path) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="browser", ignore_cleanup_errors=True)
        their_in, self._out = _high_pipe()
        self._in, their_out = _high_pipe()
        command = [sys.executable, "-c", _LAUNCH, str(their_in), str(their_out)]
        program = browser_command()
        assert program is not None, "no browser: mark the test with needs('chromium')"
        self._process = subprocess.Popen(
            [*command, program, *_FLAGS, f"--user-data-dir={self._profile.name}"],
            pass_fds=(their_in, their_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(their_in)
        os.close(their_out)
        self._answers: Queue[dict[str, Any]] = Queue()
        self._sent = 0
        self._session: str | None = None
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._loaded = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        self._open(page)

    def _open(self, page: Path) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self._loaded.clear()
        self.call("Page.navigate", url=page.as_uri())
        assert self._loaded.wait(DEADLINE), "the page was not loaded"

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Sends a command of the protocol and returns its result."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        try:
            answer = self._answers.get(timeout=DEADLINE)
        except Empty:
            raise AssertionError(f"no answer to {method}; {self._process.poll()=}") from None
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def click(self, element: str) -> None:
        """Clicks in the middle of the element that the JavaScript expression names."""
        self.evaluate(f"{element}.scrollIntoView({{block: 'nearest'}})")
        box = self.evaluate(
            f"(b => [b.x + b.width / 2, b.y + b.height / 2])({element}.getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=box[0],
                y=box[1],
                button="left",
                clickCount=1,
            )

    def type(self, text: str) -> None:
        """Types into the element that has the focus."""
        self.call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        """Closes it, so that its child processes end before the profile is removed."""
        self._session = None
        try:
            self.call("Browser.close")
            self._process.wait(DEADLINE)
        finally:
            self._process.kill()
            self._process.wait(DEADLINE)
            os.close(self._out)
            self._profile.cleanup()

    def _read(self) -> None:
        with os.fdopen(self._in, "rb") as stream:
            rest = b""
            while chunk := stream.read1(1 << 16):
                *messages, rest = (rest + chunk).split(b"\0")
                for message in messages:
                    self._take(json.loads(message))

    def _take(self, message: dict[str, Any]) -> None:
        method, parameters = message.get("method"), message.get("params", {})
        if "id" in message:
            self._answers.put(message)
        elif method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(parameters["exceptionDetails"]["text"])
        elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(parameters["entry"]["text"])


def _high_pipe() -> tuple[int, int]:
    """A pipe's read and write ends, numbered above the descriptors that Chromium uses."""
    ends = os.pipe()
    read, write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return read, write
