"""report.html in a real browser: Chromium, driven by Playwright, at phone and desk width, in the light and the dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fovea
from fovea.reporting.write import write_comparison
from fovea.runview import Run
from tests.conftest import bars
from tests.reporting.test_report import EVIL, evil_folder

pytestmark = [pytest.mark.pages, pytest.mark.pictures]

_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS, SCHEMES = (390, 1280), ("light", "dark")

# For every text on the page: its colour against the nearest opaque background, as WCAG 2.2 counts contrast.
CONTRAST = """() => {
  const channel = v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = c => .2126 * channel(c[0]) + .7152 * channel(c[1]) + .0722 * channel(c[2]);
  const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const back = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || !parent.checkVisibility()) continue;
    const style = getComputedStyle(parent), below = back(parent);
    const front = over(parse(parent.closest('svg') ? style.fill : style.color), below);
    const [a, b] = [light(front), light(below)].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) bad.push(`${ratio.toFixed(2)} ${text.slice(0, 40)} ${style.color}`);
  }
  return bad;
}"""

# How many names above the columns of a confusion matrix are longer than their place.
NAMES_ABOVE = """() => [...document.querySelectorAll('.matrix thead span')].filter(
  name => name.scrollHeight > name.clientHeight + 1).length"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: make test-pages")
    if _CHROMIUM is None:
        pytest.skip("no Chromium was found on the PATH")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of a good run, of one on hostile names, and of both good runs held against each other."""
    root = tmp_path_factory.mktemp("pages")
    options: dict[str, Any] = {"threads": 1, "verbose": False, "out": root / "runs"}
    runs: list[Run] = [fovea.train(bars(150), epochs=epochs, name=f"run-{epochs}", **options) for epochs in (1, 8)]
    evil = fovea.train(evil_folder(root / "data"), epochs=1, lr=1e-6, name="evil", **options)
    return {
        "run": runs[1].path / "report.html",
        "evil": evil.path / "report.html",
        "comparison": write_comparison(runs),
    }


def opened(browser: Any, path: Path, width: int, scheme: str) -> tuple[Any, list[str]]:
    """The page, and all that it asked for or complained of."""
    page = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme).new_page()
    noise: list[str] = []
    page.on("console", lambda message: noise.append(message.text))
    page.on("pageerror", lambda error: noise.append(str(error)))
    page.on("dialog", lambda dialog: noise.append("a dialog"))
    page.on("request", lambda request: noise.append(request.url) if not request.url.startswith("data:") else None)
    page.goto(path.as_uri())
    return page, [line for line in noise if line != path.as_uri()]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["run", "evil", "comparison"])
def test_a_page_is_quiet_and_fits_its_width(browser: Any, pages: dict[str, Path], name: str, width: int) -> None:
    page, noise = opened(browser, pages[name], width, "light")
    assert noise == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("script").count() == 0


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", ["run", "evil", "comparison"])
def test_every_text_stands_out_in_the_light_and_in_the_dark(
    browser: Any, pages: dict[str, Path], name: str, scheme: str
) -> None:
    page, _ = opened(browser, pages[name], 1280, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    assert page.evaluate(CONTRAST) == []
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") == (scheme == "light")


def test_hostile_names_are_shown_as_text(browser: Any, pages: dict[str, Path]) -> None:
    page, _ = opened(browser, pages["evil"], 1280, "light")
    text = page.inner_text("body")
    for name in EVIL:
        assert name[:12].replace("/", "∕") in text
    assert page.locator("img[onerror]").count() == 0
    assert "49" not in page.inner_text("#data .strips")  # {{ 7 * 7 }} is not computed


def test_the_keyboard_reaches_contents_tables_and_folds(browser: Any, pages: dict[str, Path]) -> None:
    page, _ = opened(browser, pages["run"], 390, "light")
    seen = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.tagName + ' ' + (document.activeElement.className || '')"))
    assert {"A skip", "A ", "SUMMARY ", "DIV scroll", "PRE "} <= seen
    page.focus("summary")
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('details').open")


def test_a_screen_reader_hears_what_every_picture_shows(browser: Any, pages: dict[str, Path]) -> None:
    page, _ = opened(browser, pages["run"], 1280, "light")
    tree = page.locator("main").aria_snapshot()
    assert "Loss and accuracy over 8 epochs" in tree
    assert 'heading "Confusion matrix"' in tree
    unnamed = page.evaluate("[...document.querySelectorAll('img')].filter(image => !image.alt).length")
    assert unnamed == 0


def test_long_names_above_the_confusion_matrix_do_not_reach_into_its_caption(
    browser: Any, pages: dict[str, Path]
) -> None:
    page, _ = opened(browser, pages["evil"], 1280, "light")
    assert page.evaluate(NAMES_ABOVE) == 0
