"""The dashboard in a real browser, served by the real process over a seeded home."""

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from tests.free_ports import free_ports

from steelyard.bootstrap import Platform
from steelyard.domain.rollout import Rollout

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

AXE = (Path(__file__).parent / "vendor" / "axe-4.14.1.min.js").read_text(encoding="utf-8")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PAGES = ("/", "/models/digits", "/models/wide", "/models/unpriced", "/predictions/p-10")


@dataclass
class Watched:
    """A page, and what it asked for and complained about."""

    page: Page
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The machine's Chromium, else the one that Playwright downloaded (tools/browser.sh)."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def address(seeded: Platform) -> Iterator[str]:
    """The base URL of ``python -m steelyard.api`` over the seeded home."""
    (port,) = free_ports(1)
    settings = seeded.settings.model_copy(update={"api_port": port})
    environment = {**os.environ, **settings.as_environment()}
    process = subprocess.Popen([sys.executable, "-m", "steelyard.api"], env=environment)
    try:
        _wait_until_healthy(process, settings.api_url)
        yield settings.api_url
    finally:
        process.terminate()
        process.wait(20)


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    pytest.fail(f"the API did not come up at {url}")


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    """A new page of a new visitor."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield Watched(context.new_page())
    context.close()


def test_the_chart_is_drawn_with_its_break_even(
    watched: Watched, address: str, tmp_path: Path
) -> None:
    """A person sees both curves, the marker where they cross, and the same in words."""
    page = watched.page
    page.goto(f"{address}/models/digits")
    expect(page.locator("#chart[data-drawn] canvas")).to_be_visible()
    colours = page.evaluate(
        """() => {
            const canvas = document.querySelector("#chart canvas");
            const box = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            const seen = new Set();
            for (let i = 0; i < box.data.length; i += 4)
                seen.add([...box.data.slice(i, i + 3)].join());
            return [...seen];
        }"""
    )
    assert {"31,78,140", "180,83,10", "55,65,81"} <= set(colours), "training, inference, marker"
    expect(page.locator("#break-even")).to_contain_text("Break-even reached")
    expect(page.locator("#break-even")).to_contain_text("Crossed on ")
    picture = page.screenshot(path=tmp_path / "model.png", full_page=True)
    assert len(picture) > 50_000


def test_break_even_ahead_is_drawn_as_the_level_to_reach(watched: Watched, address: str) -> None:
    """Not reached: the level of training is a line, and the words say after how many requests."""
    watched.page.goto(f"{address}/models/wide")
    expect(watched.page.locator("#chart[data-drawn] canvas")).to_be_visible()
    expect(watched.page.locator(".legend")).to_contain_text("inference has to reach it")
    expect(watched.page.locator("#break-even")).to_contain_text("after about 1,600 requests")


def test_the_rollout_moves_by_itself(
    watched: Watched,
    address: str,
    seeded: Platform,
    pause_rollout: Callable[[Platform], Rollout],
) -> None:
    """Somebody pauses the rollout elsewhere; the open page shows it without being reloaded."""
    page = watched.page
    page.goto(f"{address}/models/digits")
    state = page.locator("#rollout .headline .state")
    expect(state).to_have_text("progressing")
    page.evaluate("() => { window.stillTheSamePage = true; }")
    pause_rollout(seeded)
    expect(state).to_have_text("paused", timeout=20_000)
    expect(page.locator("#rollout")).to_contain_text("paused by hand")
    assert page.evaluate("() => window.stillTheSamePage") is True
    expect(page.locator("#chart canvas")).to_have_count(1)


def test_an_interruption_leaves_the_figures_in_place(watched: Watched, address: str) -> None:
    """An answer with an error does not take the place of the rollout."""
    page = watched.page
    page.goto(f"{address}/models/digits")
    page.route(
        "**/models/digits/rollout", lambda route: route.fulfill(status=503, body="nothing here")
    )
    with page.expect_response("**/models/digits/rollout") as answer:
        pass
    assert answer.value.status == 503
    with page.expect_response("**/models/digits/rollout"):
        expect(page.locator("#rollout")).to_contain_text("Version 2 beside version 1")
    expect(page.locator("#rollout")).not_to_contain_text("nothing here")


def test_nothing_is_loaded_from_elsewhere_and_nothing_fails(watched: Watched, address: str) -> None:
    """Pages work on a machine without internet, and the console stays clean."""
    for path in PAGES:
        watched.page.goto(f"{address}{path}")
        watched.page.wait_for_load_state("networkidle")
    assert [url for url in watched.asked if not url.startswith(address)] == []
    assert watched.complaints == []


def test_pages_are_accessible(watched: Watched, address: str) -> None:
    """axe-core, all its rules, finds nothing on any page, the one for errors included."""
    page = watched.page
    for path in (*PAGES, "/models/nope"):
        page.goto(f"{address}{path}")
        page.evaluate(AXE)
        found = page.evaluate("async () => (await axe.run()).violations.map(v => [v.id, v.help])")
        assert found == [], path


def test_pages_work_without_javascript(browser: Browser, address: str) -> None:
    """The numbers of the chart, the rollout and the look-up of a prediction need no script."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/models/digits")
    page.get_by_text("The numbers of the chart").click()
    expect(page.get_by_text("· break-even")).to_be_visible()
    expect(page.locator("#rollout")).to_contain_text("Version 2 beside version 1")
    page.get_by_label("Prediction id").fill("p-10")
    page.get_by_role("button", name="Look up").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("digits/2 answered this")
    context.close()
