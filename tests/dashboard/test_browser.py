"""The dashboard in a real browser: what is seen is what happened, live, and nothing else is loaded or said."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from meshproxy.dashboard import assets
from tests.dashboard.acting import Crowd, Line, Play, denial, large
from tests.dashboard.browser import chromium, needs_chromium
from tests.dashboard.stage import gathered, serving

if TYPE_CHECKING:
    from tests.dashboard.browser import Tab

pytestmark = needs_chromium

CALLS = "[...document.querySelectorAll('.call')].map((call) => call.dataset.pair)"
ARROW = " \u2192 "
HOSTILE = '/<img src=x onerror="document.title=1">'

# Where pictures are kept: CI makes them its artefacts.
_SHOTS = os.environ.get("MESHPROXY_SCREENSHOTS", "")


def lines() -> list[Line]:
    return [
        Line("/web", "/orders", 40, 0.020, samples=8),
        Line("/orders", "/ledger", 40, 0.008, samples=8),
        Line("/web", "/catalog", 30, 0.004, samples=8),
        Line("/orders-qa", "/ledger", 0, denied=0.5, allowed=False),
        Line("/batch", "/ledger", 0),
    ]


def acted(*, past: int = 10) -> Play:
    now = time.time()
    play = Play(lines(), now, past=past)
    play.live_through(now)
    return play


async def opened(tab: Tab, url: str, page: str = "map", *, width: int = 1280, dark: bool = False) -> None:
    await tab.resize(width, 860, dark=dark)
    await tab.open(f"{url}/dashboard#/{page}")
    await tab.until("document.querySelector('#link')?.dataset.state === 'live'")


async def kept(tab: Tab, name: str, tmp_path: Path) -> None:
    """Save a picture, which must show something."""
    path = Path(_SHOTS or tmp_path) / f"{name}.png"
    await tab.shoot(path)
    assert path.stat().st_size > 10_000  # an empty page of this size has 4 KB


async def test_sidecar_shows_its_own_traffic(tmp_path: Path) -> None:
    play = acted(past=3)
    ledger = play.sidecars["/ledger"]
    async with serving({**ledger.views(), **assets.views()}) as address, chromium(tmp_path) as browser:
        tab = await browser.tab()
        await opened(tab, f"http://{address}")
        assert await tab.until(f"{CALLS}.length > 1 && {CALLS}") == [
            f"/orders{ARROW}/ledger",
            f"/orders-qa{ARROW}/ledger",
        ]
        assert tab.complaints.console == []
        assert tab.complaints.origins == {f"http://{address}"}


@pytest.mark.long
async def test_what_is_seen_is_what_happens(tmp_path: Path) -> None:
    play = acted()
    async with gathered(play) as stage, chromium(tmp_path) as browser:
        tab = await browser.tab()
        await opened(tab, stage.url)
        expected = [
            f"/orders{ARROW}/ledger",
            f"/orders-qa{ARROW}/ledger",
            f"/web{ARROW}/catalog",
            f"/web{ARROW}/orders",
        ]
        assert await tab.until(f"{CALLS}.length === 4 && {CALLS}.sort()") == sorted(expected)
        # The call's numbers: 40 a second, told once though both ends report it.
        label = "document.querySelector('.node[data-name=\"/ledger\"]').getAttribute('aria-label')"
        told = await tab.until(f"({label}).includes('/s') && {label}")
        assert told.startswith(("ledger: 38/s", "ledger: 39/s", "ledger: 40/s", "ledger: 41/s")), told
        # Idle calls on request.
        await tab.ask("[...document.querySelectorAll('.toggle')].find((b) => b.textContent === 'Idle calls').click()")
        assert await tab.until(f"{CALLS}.includes('/batch{ARROW}/ledger')")
        await kept(tab, "map", tmp_path)

        # Details open with the keyboard.
        await tab.ask("document.querySelector('.node[tabindex=\"0\"]').focus()")
        await tab.ask(
            "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true}))"
        )
        await tab.until("document.querySelector('.details h2')?.textContent")

        # The curve moves without a reload.
        await tab.ask("location.hash = '#/curves'")
        pixels = "(() => { const c = document.querySelector('.curves canvas'); return c.width ? c.toDataURL() : '' })()"
        before = await tab.until(
            f"document.querySelector('.curves .reading b')?.textContent.includes('/s') && {pixels}"
        )
        play.line("/web", "/catalog").rate = 400
        await tab.until("parseFloat(document.querySelector('.curves .reading b').textContent) > 300")
        assert await tab.ask(pixels) != before
        await kept(tab, "curves", tmp_path)

        # A cell of the heat map turns hot after latency was injected; the arrow keys read it.
        play.line("/orders", "/ledger").seconds = 0.3
        await tab.ask("location.hash = '#/heat'")
        await tab.until("document.querySelector('canvas.heat')?.width > 300")
        read = """(() => {
          const plate = document.querySelector('canvas.heat');
          const press = (key) => plate.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
          press('Escape'); press('ArrowUp');
          const first = document.querySelector('[aria-live]').textContent;
          return first;
        })()"""
        hot = await tab.until(
            f"(() => {{ const said = {read}; return /ledger.* \\d+(\\.\\d)?\u00d7 its usual/.test(said) && said }})()"
        )
        assert float(hot.partition("\u00d7")[0].rpartition(" ")[2]) > 4, hot
        await kept(tab, "heat", tmp_path)

        # A denial appears with its explanation, and with the edit that would grant it.
        await tab.ask("location.hash = '#/denials'")
        await tab.until("document.querySelector('.denials')?.textContent.includes('Nobody was refused')")
        play.sidecars["/ledger"].denials.append(denial("/orders-qa", "/ledger", now=time.time()))
        play.line("/orders-qa", "/ledger").denied = 3
        await tab.until("document.querySelector('.denials .why')?.textContent.includes('which no rule grants')")
        assert "[[allow]]" in await tab.ask("document.querySelector('.denials pre').textContent")
        await tab.ask("document.querySelector('.denials summary').click()")
        await kept(tab, "denials", tmp_path)

        assert tab.complaints.console == []
        assert tab.complaints.origins == {stage.url}


@pytest.mark.long
async def test_more_tabs_than_a_browser_has_connections_are_all_live(tmp_path: Path) -> None:
    """Six connections to a place, over all tabs: a stream in each of those that nobody sees would take them all."""
    play = acted(past=3)
    ledger = play.sidecars["/ledger"]
    async with serving({**ledger.views(), **assets.views()}) as address, chromium(tmp_path) as browser:
        tabs = [await browser.tab() for _ in range(8)]
        for tab in tabs:
            await tab.show()
            await opened(tab, f"http://{address}")
        assert ledger.feed.listeners < 6
        # One that is looked at again has what happened meanwhile, and goes on.
        await tabs[0].show()
        await tabs[0].until("document.querySelector('#link').dataset.state === 'live'")
        await tabs[0].open("about:blank")
        await opened(tabs[0], f"http://{address}", "curves")
        assert ledger.feed.listeners < 6
        assert [tab.complaints.console for tab in tabs] == [[]] * 8


@pytest.mark.long
async def test_what_is_broken_is_told_and_harms_nobody(tmp_path: Path) -> None:
    play = acted(past=5)
    async with gathered(play) as stage, chromium(tmp_path) as browser:
        tab = await browser.tab()
        await opened(tab, stage.url, width=390, dark=True)
        await tab.until(f"{CALLS}.length === 4")
        stage.running["/catalog"].cancel()
        await tab.until(
            "/catalog.*unreachable/.test(document.querySelector('#trouble').innerText.replaceAll('\\n', ' '))"
        )
        await tab.until("document.querySelector('.node.broken')?.dataset.name === '/catalog'")
        # The source still tells of the calls that the destination cannot tell of.
        assert f"/web{ARROW}/catalog" in await tab.ask(CALLS)
        assert await tab.ask("document.documentElement.scrollWidth") == 390
        await kept(tab, "broken", tmp_path)
        for page in ("heat", "curves", "denials", "certificates", "connections"):
            await tab.ask(f"location.hash = '#/{page}'")
            await tab.until(f"document.querySelector('nav [aria-current]').dataset.name === '{page}'")
            assert await tab.ask("document.documentElement.scrollWidth") == 390, page
        assert tab.complaints.console == []


@pytest.mark.long
async def test_names_that_peers_choose_stay_text(tmp_path: Path) -> None:
    now = time.time()
    play = Play([Line(HOSTILE, "/api", 5, samples=4)], now, past=2)
    play.live_through(now)
    api = play.sidecars["/api"]
    api.denials.append(denial(HOSTILE, "/api", now=now, path=HOSTILE))
    async with gathered(play) as stage, chromium(tmp_path) as browser:
        tab = await browser.tab()
        await opened(tab, stage.url)
        await tab.until(f"{CALLS}.length === 1")
        for page in ("denials", "heat", "curves", "certificates", "map"):
            await tab.ask(f"location.hash = '#/{page}'")
            await tab.until(f"document.querySelector('nav [aria-current]').dataset.name === '{page}'")
            await trio.testing.wait_all_tasks_blocked()
        assert await tab.ask("document.querySelectorAll('main img').length") == 0
        assert (await tab.ask("document.title")).endswith("meshproxy")
        assert tab.complaints.console == []


@pytest.mark.long
async def test_hundred_services_and_a_thousand_calls_do_not_stutter(tmp_path: Path) -> None:
    many = large()
    crowd = Crowd.of(many, time.time())
    watch = """new Promise((resolve) => {
      const tasks = []; const frames = []; let last = performance.now(); const begun = last;
      const seen = new PerformanceObserver((list) => tasks.push(...list.getEntries().map(({ duration }) => duration)));
      seen.observe({ type: 'longtask' });
      const svg = document.querySelector('svg.graph');
      const frame = (now) => {
        frames.push(now - last); last = now;
        svg.dispatchEvent(new WheelEvent('wheel',
          { deltaY: frames.length % 40 < 20 ? -20 : 20, clientX: 400, clientY: 500 }));
        if (frames.length < 240 && performance.now() - begun < 15000) requestAnimationFrame(frame);
        else { frames.sort((a, b) => a - b);
          resolve({ longest: Math.max(0, ...tasks), tasks: tasks.length, frames: frames.length,
          median: frames[frames.length >> 1], p95: frames[Math.floor(frames.length * 0.95)] }); }
      };
      requestAnimationFrame(frame);
    })"""
    async with serving({**crowd.views(), **assets.views()}) as address, chromium(tmp_path) as browser:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(each_second_of, crowd, many)
            tab = await browser.tab()
            await opened(tab, f"http://{address}")
            await tab.until(f"{CALLS}.length === 1000")
            await kept(tab, "large", tmp_path)
            # What is loaded at first takes as long as it takes; then nothing may.
            await tab.until(
                "performance.getEntriesByType('resource').filter((e) => e.name.includes('/series')).length > 4"
            )
            found = await tab.ask(watch)
            busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # others' work is not the page's
            print(found)
            assert found["median"] < 50 * busy, found  # of a software renderer on a shared machine
            assert found["longest"] < 250 * busy, found
            nursery.cancel_scope.cancel()
        assert tab.complaints.console == []


async def each_second_of(crowd: Crowd, many: list[Line]) -> None:
    dice = random.Random(1)
    while True:
        await trio.sleep(1 - time.time() % 1)
        crowd.second(time.time(), many, dice)
