"""The page in a real browser over a gateway whose engine is simulated: each view, and what goes wrong."""

import asyncio
import contextlib
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ViewportSize, expect
from pydantic import SecretStr

from experts.checkpoints.prepare import prepare
from experts.spec import CheckpointSource, ExpertConfig
from router.composition import RoutedBy
from server.config.api_keys import KeyConfig
from server.config.settings import Settings
from server.serve import operators_served
from server.transport.sockets import listen
from tests.server.conftest import Gateway, Serving, changed, settled, simulated, until
from tests.ui.conftest import PHONE, ROOT, WIDE, Shown, picture, shown

pytestmark = pytest.mark.system

VIEWS = ["Tiers", "Requests", "Playground", "Router", "Metrics", "Experts", "Keys and usage", "Logs"]
VIEWS += ["Configuration", "API"]
PLACES = {"Keys and usage": "usage"}
"""Where a view is, if not at its name."""
QUESTION = "What is the integral of x^2 from 0 to 3?"
WALL: ViewportSize = {"width": 2560, "height": 1440}


def asking(content: str) -> dict[str, Any]:
    return {
        "model": "coe",
        "messages": [{"role": "user", "content": content}],
        "stream": True,
        "ignore_eos": True,
    }


async def violations(tab: Shown) -> list[str]:
    """Returns what axe finds wrong with the page, as WCAG 2.2 has it and beyond."""
    found = await Axe().run(tab.page)
    return [
        f"{each['id']}: {node['target']} {node.get('failureSummary', '')}"
        for each in found.response["violations"]
        for node in each["nodes"]
    ]


async def table_is_whole(tab: Shown) -> bool:
    """Says whether the list of requests needs no sideways scrolling."""
    return bool(await tab.page.locator(".scroll").evaluate("each => each.scrollWidth <= each.clientWidth"))


async def is_within_its_width(tab: Shown) -> bool:
    return bool(await tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_each_view_has_no_violation_of_accessibility_and_fits_every_screen(
    serving: Serving, settings: Settings, browser: Browser, scheme: str
) -> None:
    async with serving(simulated(settings, tokens_per_s=5000)) as gateway:
        tab = await shown(browser, gateway.url, color_scheme=scheme)
        await tab.open()
        await tab.becomes("Live")
        for number, content in enumerate([QUESTION, "Sort a list in Python", "What is a tort?"]):
            answer = await gateway.post({"x-request-id": f"r{number}"}, **asking(content), max_tokens=40)
            assert answer.status_code == 200
        await until(lambda: gateway.services.observer.figures.latest > 0)
        await expect(tab.page.locator(".bar[data-tier=disk] .block")).to_have_count(5)
        await tab.page.locator(".bar[data-tier=disk] .block").first.click()
        for view in [*VIEWS, "requests/r0"]:
            place = PLACES.get(view, view.lower())
            await tab.go(place, "Request" if view == "requests/r0" else view)
            await expect(tab.page.get_by_text("Loading", exact=True)).to_have_count(0)
            if view == "Metrics":  # a figure without neighbours is no line
                await expect(tab.page.locator("circle.point").first).to_be_visible()
            assert await violations(tab) == [], view
            for size in (PHONE, WALL):
                await tab.page.set_viewport_size(size)
                assert await is_within_its_width(tab), (view, size)
            await tab.page.set_viewport_size(WIDE)
        assert tab.complaints == []


def test_every_reason_for_an_expert_has_words() -> None:
    script = (ROOT / "server" / "ui" / "format.js").read_text()
    words = re.findall(r"^  \"?([a-z-]+)\"?: \"", script[script.index("export const why") :], re.MULTILINE)
    assert {*words} == {*get_args(RoutedBy)}


async def test_a_browser_is_led_to_the_page_which_may_run_its_own_files_alone(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway:
        for path, place in {"/": "/ui", "/docs": "/ui#/api"}.items():
            led = await gateway.http.get(path, headers={"accept": "text/html"})
            assert (led.status_code, led.headers["location"]) == (307, place)
        page = await gateway.http.get("/ui")
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert "http" not in page.text.replace("http-equiv", "")
        again = await gateway.http.get("/ui", headers={"if-none-match": page.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        for path in ("/ui/nothing.js", "/ui/../app.py", "/ui/views"):
            assert (await gateway.http.get(path)).status_code == 404
    async with serving(changed(settings, admin_port=1)) as gateway:
        assert (await gateway.http.get("/ui")).status_code == 404


async def test_an_expert_is_watched_on_its_way_up_and_ordered_about(
    serving: Serving, settings: Settings, browser: Browser
) -> None:
    async with serving(simulated(settings, load_bytes_per_s=500)) as gateway:
        gateway.services.tiers.orders.move("coding", "device")  # how long that takes is known from then on
        await settled(gateway)
        tab = await shown(browser, gateway.url)
        await tab.open()
        device, page = tab.page.locator(".bar[data-tier=device]"), tab.page
        await page.locator(".bar[data-tier=disk]").get_by_role("button", name="law").click()
        await page.get_by_role("button", name="Load", exact=True).click()
        await expect(page.get_by_role("button", name="Load", exact=True)).to_have_count(0)  # it comes already
        move = page.locator(".move", has_text="law")
        await expect(move).to_contain_text("B/s")
        await expect(move).to_contain_text("left")
        await expect(device.get_by_role("button", name="law")).to_have_attribute("data-presence", "present")
        await expect(move).to_have_count(0)
        await page.get_by_role("button", name="Pin", exact=True).click()
        await expect(device.get_by_role("button", name="law")).to_contain_text("◆")
        await page.get_by_role("button", name="Load", exact=True).wait_for(state="hidden")
        await page.get_by_role("button", name="To disk").click()
        await expect(page.locator(".toast.bad")).to_contain_text("pinned")
        await (
            page.locator(".bar[data-tier=disk]")
            .get_by_role("button", name="math")
            .drag_to(page.locator(".bar[data-tier=host]"))
        )
        await expect(page.locator(".bar[data-tier=host]").get_by_role("button", name="math")).to_be_visible()
        await settled(gateway)
        assert all("409" in complaint for complaint in tab.complaints)


async def test_a_request_is_followed_cancelled_and_its_story_read(
    serving: Serving, settings: Settings, browser: Browser
) -> None:
    async with serving(settings) as gateway:
        tab = await shown(browser, gateway.url)
        await tab.open("requests")
        asked = asyncio.create_task(
            gateway.post({"x-request-id": "mine"}, **asking(QUESTION), max_tokens=100_000)
        )
        row = tab.page.get_by_role("row").filter(has_text="decoding")
        await expect(row).to_contain_text("math")
        assert await table_is_whole(tab)
        await row.get_by_role("button", name="Cancel mine").click()
        assert "request_cancelled" in (await asked).text
        await expect(tab.page.get_by_role("row").filter(has_text="499")).to_contain_text("math")
        await tab.page.get_by_label("Which requests").select_option("good")
        await expect(tab.page.locator(".requests tbody tr")).to_have_count(0)
        await tab.page.get_by_label("Which requests").select_option("")
        await tab.page.locator(".requests a").click()
        await tab.page.get_by_role("heading", name="Why this expert").wait_for()
        story = await tab.page.locator("main").inner_text()
        assert "An operator cancelled this request." in story
        assert "disk → host (ticket)" in story
        assert "The row of the map" in story
        assert QUESTION not in story
        assert tab.complaints == []


async def test_the_playground_shows_the_decision_and_two_answers_side_by_side(
    serving: Serving, settings: Settings, browser: Browser
) -> None:
    async with serving(settings) as gateway:
        tab = await shown(browser, gateway.url)
        await tab.open("playground")
        page = tab.page
        await page.get_by_label("Compare with").select_option("law")
        await page.get_by_label("Prompt").fill(QUESTION)
        await page.get_by_label("Prompt").press("Control+Enter")
        await expect(page.locator(".decision").first).to_contain_text("→ math (the map)")
        await expect(page.locator(".said").first).to_contain_text("Simulated answer of math:")
        await expect(page.locator(".said").last).to_contain_text("Simulated answer of law:")
        await expect(page.locator(".answer").first).to_contain_text("tokens")
        await tab.go("router")
        where = "each => ['cx', 'cy'].map(name => Math.round(each.getAttribute(name)))"
        used, dot = page.locator("circle.used"), page.locator("circle.dot")
        await expect(dot).to_have_count(1)  # experts of one size
        assert await used.evaluate(where) == await dot.evaluate(where)
        await page.get_by_label("Prompt to explain for coe").fill(QUESTION)
        await page.get_by_role("button", name="Explain").click()
        await expect(page.get_by_text("It would go to math: the map.")).to_be_visible()
        assert tab.complaints == []


async def test_a_chat_goes_on_while_another_view_is_looked_at_and_remembers_its_turns(
    serving: Serving, settings: Settings, browser: Browser
) -> None:
    async with serving(settings) as gateway:
        tab = await shown(browser, gateway.url)
        await tab.open("playground")
        page = tab.page
        await page.get_by_label("Prompt").fill(QUESTION)
        await page.get_by_role("button", name="Ask").click()
        await expect(page.locator(".decision")).to_contain_text("→ math")
        await tab.go("tiers")
        await until(lambda: [story.outcome for story in gateway.services.observer.stories] == ["200"])
        await tab.go("playground")
        await expect(page.locator(".answer")).to_contain_text("its story")
        await page.get_by_label("Prompt").fill("And of x^3?")
        await page.get_by_role("button", name="Ask").click()
        await expect(page.get_by_role("link", name="its story")).to_have_count(2)
        first, second = gateway.services.observer.stories
        assert second.tokens.prompt_tokens > 2 * first.tokens.prompt_tokens  # all before it
        await page.get_by_role("button", name="New chat").click()
        await expect(page.locator(".answer")).to_have_count(0)
        assert tab.complaints == []


async def test_keys_are_shown_with_their_limits_and_usage(
    serving: Serving, settings: Settings, browser: Browser
) -> None:
    keys = (KeyConfig(key=SecretStr("client"), name="desk", tokens_per_day=90_000),)
    guarded = changed(settings, admin_key=SecretStr("operator"), api_keys=keys)
    async with serving(guarded) as gateway:
        assert (await gateway.post({"authorization": "Bearer client"})).status_code == 200
        tab = await shown(browser, gateway.url)
        await tab.open("usage")
        await tab.page.get_by_role("button", name="Enter keys").click()
        await tab.page.get_by_label("Operator's key").fill("operator")
        await tab.page.get_by_role("button", name="Use").click()
        keys_table = tab.page.get_by_role("region", name="Keys")
        await expect(keys_table.get_by_role("row").filter(has_text="desk")).to_contain_text("90,000")
        usage = tab.page.get_by_role("region", name="Usage")
        await expect(usage.get_by_role("row").filter(has_text="desk")).to_be_visible()
        assert all("401" in complaint for complaint in tab.complaints)


def many(settings: Settings, checkpoint: Path, count: int) -> Settings:
    """The same with more experts, prepared."""
    source = CheckpointSource(folder=checkpoint)
    more = {f"expert-{number:03}": ExpertConfig(family="small", checkpoint=source) for number in range(count)}
    for name, expert in more.items():
        prepare(name, expert, settings.store)
    tiers = settings.tiers.model_copy(update={"device": 12_000, "host": 60_000})
    return settings.model_copy(update={"experts": {**settings.experts, **more}, "tiers": tiers})


async def test_a_hundred_and_fifty_experts_and_a_thousand_requests_are_shown(
    serving: Serving, settings: Settings, checkpoint: Path, browser: Browser
) -> None:
    fast = simulated(many(settings, checkpoint, 145), tokens_per_s=1e6)
    async with serving(fast) as gateway:
        names = [*fast.experts]
        turn = asyncio.Semaphore(32)

        async def one(number: int) -> None:
            async with turn:
                answer = await gateway.post(
                    {"x-request-id": f"n{number}"}, model=names[number % 40], max_tokens=1
                )
                assert answer.status_code == 200

        await asyncio.gather(*map(one, range(1000)))
        tab = await shown(browser, gateway.url)
        await tab.open()
        await expect(tab.page.locator(".bar[data-tier=disk] .block")).to_have_count(150)
        assert await is_within_its_width(tab)
        ends = tab.page.locator(".bar[data-tier=disk] .name", has_text="…")
        cut = "all => all.filter(each => each.scrollWidth > each.clientWidth).map(each => each.textContent)"
        assert await ends.evaluate_all(cut) == []  # what tells them apart is to be read
        assert len({*await ends.all_inner_texts()}) == await ends.count() > 100
        await picture(tab, "150-experts")
        await tab.page.get_by_label("Find an expert").fill("expert-07")
        await expect(tab.page.locator(".bar[data-tier=disk] .block[data-dim=no]")).to_have_count(10)
        await tab.go("requests")
        await expect(tab.page.locator(".summary")).to_have_text("1,000 of 1,000 · 0 under way")
        await expect(tab.page.locator(".requests tbody tr")).to_have_count(100)
        await tab.page.get_by_label("Filter requests").fill("n77")
        await expect(tab.page.locator(".requests tbody tr")).to_have_count(11)
        assert tab.complaints == []


async def test_a_lost_connection_is_said_and_comes_back_with_what_happened_meanwhile(
    serving: Serving, settings: Settings, browser: Browser
) -> None:
    async with serving(settings) as gateway:
        tab = await shown(browser, gateway.url)
        await tab.open("requests")
        await tab.becomes("Live")
        events = "**/v1/coe/events"
        await tab.page.route(events, lambda route: route.abort())
        cut(gateway)
        await tab.becomes("Connection lost")
        assert (await gateway.post({"x-request-id": "meanwhile"})).status_code == 200
        await tab.page.unroute(events)
        await tab.becomes("Live")
        await expect(tab.page.locator(".requests tbody tr")).to_have_count(1)
        assert all("ERR_" in complaint for complaint in tab.complaints)


def cut(gateway: Gateway) -> None:
    for connection in tuple(gateway.server.server_state.connections):
        with contextlib.suppress(AttributeError):
            connection.transport.abort()


async def test_without_a_key_and_with_a_wrong_one_the_page_asks_for_it(
    serving: Serving, settings: Settings, browser: Browser
) -> None:
    guarded = changed(settings, admin_key=SecretStr("operator"), api_keys=(SecretStr("client"),))
    async with serving(guarded) as gateway:
        tab = await shown(browser, gateway.url)
        await tab.open("playground")
        await tab.becomes("Key needed")
        page = tab.page
        await page.get_by_role("button", name="Enter keys").click()
        await page.get_by_label("Operator's key").fill("wrong")
        assert await violations(tab) == []
        await page.get_by_role("button", name="Use").click()
        await tab.becomes("Key refused")
        await page.get_by_role("button", name="Keys", exact=True).click()
        await page.get_by_label("Operator's key").fill("operator")
        await page.get_by_label("API key").fill("client")
        await page.get_by_label("API key").press("Enter")
        await tab.becomes("Live")
        await expect(page.locator("#barrier")).to_have_count(0)
        await page.get_by_label("Prompt").fill(QUESTION)
        await page.get_by_role("button", name="Ask").click()
        await expect(page.locator(".said").first).to_contain_text("Simulated answer of math:")
        await tab.go("configuration")
        await expect(page.locator("pre")).to_contain_text("admin_key: (hidden)")
        assert all("401" in complaint for complaint in tab.complaints)


async def test_where_operators_have_a_listener_of_their_own_the_page_is_there(
    serving: Serving, settings: Settings, browser: Browser
) -> None:
    guarded = changed(settings, admin_port=0, admin_key=SecretStr("operator"))
    async with serving(guarded) as gateway:
        with contextlib.closing(listen("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with operators_served(gateway.made, gateway.reload, listener):
                tab = await shown(browser, url)
                await tab.open("playground")
                await tab.becomes("Key needed")
                await tab.page.get_by_role("button", name="Enter keys").click()
                await tab.page.get_by_label("Operator's key").fill("operator")
                await tab.page.get_by_label("Operator's key").press("Enter")
                await tab.becomes("Live")
                await tab.page.get_by_label("Prompt").fill(QUESTION)
                await tab.page.get_by_role("button", name="Ask").click()
                await expect(tab.page.locator(".said")).to_contain_text("Simulated answer of math:")
                await tab.go("api", "API")
                await expect(tab.page.get_by_text("/v1/coe/events").first).to_be_visible()
                assert all("401" in complaint for complaint in tab.complaints)


async def test_nothing_moves_for_who_wants_less_motion_and_keys_lead_everywhere(
    serving: Serving, settings: Settings, browser: Browser
) -> None:
    async with serving(simulated(settings, load_bytes_per_s=500)) as gateway:
        tab = await shown(browser, gateway.url, reduced_motion="reduce")
        await tab.open()
        page = tab.page
        gateway.services.tiers.orders.move("law", "device")
        arriving = page.locator(".block[data-presence=arriving]").first
        await arriving.wait_for()
        style = "each => ['animationName', 'transitionDuration'].map(name => getComputedStyle(each)[name])"
        assert await arriving.evaluate(style) == ["none", "0s"]
        still = "each => getComputedStyle(each).transform"
        assert await page.locator(".move").first.evaluate(still) == "none"
        for number, view in enumerate(VIEWS, 1):
            await page.keyboard.press(str(number % 10))
            await page.get_by_role("heading", level=1, name=view, exact=False).first.wait_for()
        await page.keyboard.press("/")
        await expect(page.get_by_label("Find a path")).to_be_focused()
        await tab.go("tiers")
        await settled(gateway)
        block = page.locator(".bar[data-tier=disk]").get_by_role("button", name="math")
        await block.press("Enter")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("button", name="Load", exact=True)).to_be_focused()
        gateway.services.tiers.orders.move("math", "host")
        await expect(page.locator(".bar[data-tier=host]").get_by_role("button", name="math")).to_be_visible()
        await expect(page.get_by_role("button", name="Load", exact=True)).to_be_focused()  # all the same
        await page.keyboard.press("Escape")
        await expect(block).to_be_focused()
        await page.reload()
        await tab.becomes("Live")
        await page.keyboard.press("Tab")
        await expect(page.locator(".skip")).to_be_focused()
        await settled(gateway)
        assert tab.complaints == []
