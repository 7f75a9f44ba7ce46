# SPDX-License-Identifier: Apache-2.0
"""The flame graph in a browser: what a user sees, clicks and searches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from harness.browser import Browser

from kwatch.model.frame import Frame
from kwatch.model.snapshot import HeapProfile, StackTotals
from kwatch.sinks.profiles.flamegraph import flamegraph
from kwatch.sinks.profiles.unit import ProcessProfile

pytestmark = pytest.mark.needs("chromium")

MAIN = Frame(1, "main", 0, "/bin/app", "/src/main.c", 40)
STACKS = (
    StackTotals(1, 1, 3072, 1, 3072, (Frame(2, "grow", 0, "/bin/app", "/src/cache.c", 12), MAIN)),
    StackTotals(2, 9, 9216, 2, 1024, (Frame(3, "<img src=x onerror=x()>"), MAIN)),
    StackTotals(3, 6, 6144, 0, 0, (Frame(4, "balanced"), MAIN)),
)
APP = ProcessProfile("app[7]", 7, HeapProfile(STACKS), 0, 0)
OTHER = replace(APP, name="other[8]", pid=8, profile=HeapProfile(STACKS[:1]))

ShowPage = Callable[..., Browser]


@pytest.fixture
def show(tmp_path: Path) -> Iterator[ShowPage]:
    """show(UNIT, ...): a browser with their flame graph. It must load nothing else."""
    browsers: list[Browser] = []
    page = tmp_path / "page.html"

    def show_page(*units: ProcessProfile) -> Browser:
        page.write_bytes(flamegraph(units))
        browsers.append(Browser(page))
        return browsers[-1]

    yield show_page
    for browser in browsers:
        asked, wrong = browser.requests, browser.errors
        browser.close()
        assert asked == [page.as_uri()]
        assert wrong == []


def frames(browser: Browser) -> dict[str, float]:
    """The drawn frames and their shares of the width."""
    rows = browser.evaluate(
        "[...document.querySelectorAll('.f')].map(e => [e.textContent, "
        "e.getBoundingClientRect().width / document.querySelector('#graph').clientWidth])"
    )
    return {text: round(width, 2) for text, width in rows}


def text(browser: Browser, element: str) -> str:
    return str(browser.evaluate(f"document.querySelector('{element}').textContent"))


def frame(name: str) -> str:
    return f"[...document.querySelectorAll('.f')].find(e => e.textContent.startsWith('{name}'))"


def test_widths_are_outstanding_bytes(show: ShowPage) -> None:
    browser = show(APP)
    assert frames(browser) == {
        "app[7]": 1.0,
        "main  main.c:40": 1.0,
        "grow  cache.c:12": 0.75,
        "<img src=x onerror=x()>": 0.25,
    }
    assert browser.evaluate("document.title") == "kwatch app[7]"
    assert text(browser, "#detail") == "app[7]: 4.0 KiB outstanding bytes (100.0%)"


def test_a_click_zooms_and_escape_returns(show: ShowPage) -> None:
    browser = show(APP, OTHER)
    before = frames(browser)
    assert before["all processes"] == 1.0
    browser.click(frame("<img"))
    zoomed = {"all processes", "app[7]", "main  main.c:40", "<img src=x onerror=x()>"}
    assert frames(browser) == dict.fromkeys(zoomed, 1.0)
    assert "1.0 KiB outstanding bytes (14.3%" in text(browser, "#detail")
    browser.click(frame("main"))  # an ancestor is a way back up
    assert frames(browser)["grow  cache.c:12"] == 0.75
    browser.press("Escape")
    assert frames(browser) == before
    browser.click(frame("other"))
    browser.click("document.querySelector('#reset')")
    assert frames(browser) == before


def test_search_marks_frames_and_adds_them_up(show: ShowPage) -> None:
    browser = show(APP)
    hits = "[...document.querySelectorAll('.hit')].map(e => e.textContent)"
    browser.press("/")
    browser.type("CACHE.c")
    assert browser.evaluate(hits) == ["grow  cache.c:12"]
    assert text(browser, "#matched") == "1 frame: 3.0 KiB (75.0%)"
    browser.press("Escape")
    assert browser.evaluate(hits) == []
    browser.click("document.querySelector('#search')")
    browser.type("/^(grow|main)$/")
    assert text(browser, "#matched") == "2 frames: 4.0 KiB (100.0%)"
    browser.press("Escape")
    browser.type("/(/")
    assert text(browser, "#matched") == "0 frames: 0 B (0.0%)"


def test_other_figures_can_be_chosen(show: ShowPage) -> None:
    browser = show(APP)
    options = "[...document.querySelector('#measure').options].map(o => o.text)"
    titles = [
        f"{kind} {noun}" for kind in ("allocated", "outstanding") for noun in ("blocks", "bytes")
    ]
    assert browser.evaluate(options) == titles
    browser.evaluate(
        "(e => { e.value = 0; e.dispatchEvent(new Event('change')); })"
        "(document.querySelector('#measure'))"
    )
    shares = {name.split()[0]: share for name, share in frames(browser).items()}
    assert shares == {"app[7]": 1.0, "main": 1.0, "<img": 0.56, "balanced": 0.37, "grow": 0.06}


def test_nothing_and_losses(show: ShowPage) -> None:
    browser = show(replace(APP, profile=HeapProfile(), lost=2))
    assert frames(browser) == {"app[7]": 1.0}
    assert text(browser, "#note") == "2 events were lost: totals are lower bounds"
    assert frames(show()) == {"all processes": 1.0}


def test_a_hundred_thousand_stacks_are_drawn(show: ShowPage) -> None:
    stacks = tuple(
        StackTotals(n, 1, n, 1, n, (Frame(n, f"leaf{n}"), Frame(1, f"inner{n % 7}"), MAIN))
        for n in range(1, 100_001)
    )
    browser = show(replace(APP, profile=HeapProfile(stacks)))
    assert sum(name.startswith("inner") for name in frames(browser)) == 7
    browser.click(frame("inner"))
    assert text(browser, "#detail").startswith("inner")
