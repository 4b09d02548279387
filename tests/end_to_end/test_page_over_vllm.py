"""The page over the embedded composition on real vLLM: a load that is watched, and a chat that makes one."""

import pytest
from playwright.async_api import Browser, expect

from tests.end_to_end.conftest import EXPERTS, GatewayProcess
from tests.ui.conftest import browser, picture, shown  # noqa: F401  # a fixture

pytestmark = pytest.mark.engine
MS = 120_000.0
"""Patience with an engine that shares a busy machine."""
VIEWS = ["Tiers", "Requests", "Router", "Metrics", "Experts", "Logs", "Configuration", "API"]


async def test_a_load_is_watched_and_a_chat_makes_its_expert_move(
    gateway: GatewayProcess,
    browser: Browser,  # noqa: F811
) -> None:
    tab = await shown(browser, gateway.url)
    page = tab.page
    page.set_default_timeout(MS)
    await tab.open()
    await expect(page.locator(".bar[data-tier=disk] .block")).to_have_count(len(EXPERTS))

    async def order(expert: str, button: str) -> None:
        block = page.locator(".bar[data-tier=disk]").get_by_role("button", name=expert)
        if await block.get_attribute("aria-pressed") != "true":
            await block.click()
        await page.get_by_role("button", name=button, exact=True).click()

    on_device = page.locator(".bar[data-tier=device]")
    for expert in ("law", "math"):
        await page.locator(".bar[data-tier=disk]").get_by_role("button", name=expert).click()
        if await page.get_by_role("button", name="To disk", exact=True).count():
            await page.get_by_role("button", name="To disk", exact=True).click()
        await expect(on_device.get_by_role("button", name=expert)).to_have_count(0, timeout=MS)
    moves: list[str] = []
    await page.expose_function("moved", lambda move: moves.append(move))  # it takes no method
    await page.evaluate("""() => new MutationObserver(() => {
        for (const move of document.querySelectorAll('.move')) moved(move.textContent);
    }).observe(document.querySelector('.stack'), {subtree: true, childList: true, characterData: true})""")
    await order("law", "Load")
    move = page.locator(".move", has_text="law")
    await expect(move).to_contain_text("left")
    await picture(tab, "tiers")
    law = on_device.get_by_role("button", name="law")
    await expect(law).to_have_attribute("data-presence", "present", timeout=MS)
    assert any("law" in move and "MB" in move for move in moves), moves

    await tab.go("playground")
    await page.get_by_label("Compare with").select_option("law")
    await page.get_by_label("Prompt").fill("What is the derivative of x^3 + 2x?")
    await page.get_by_label("Most tokens").fill("48")
    await page.get_by_role("button", name="Ask").click()
    await expect(page.locator(".decision").first).to_contain_text("→ math", timeout=MS)
    for answer in (page.locator(".answer").first, page.locator(".answer").last):
        await expect(answer).to_contain_text("tokens,", timeout=MS)
        assert len(await answer.locator(".said").inner_text()) > 10
    await picture(tab, "playground")
    await page.get_by_role("link", name="its story").first.click()
    await expect(page.locator(".timeline")).to_contain_text("math: host → device (ticket)", timeout=MS)
    story = await page.locator("main").inner_text()
    assert "queue" in story
    assert "prefill" in story
    assert "outcome=200" in story
    await picture(tab, "story")
    await tab.go("requests")
    await expect(page.locator(".requests tbody tr").filter(has_text="math")).not_to_have_count(0)
    await picture(tab, "requests")

    for view in VIEWS:
        await tab.go(view.lower(), view)
    await tab.go("usage", "Keys and usage")
    await tab.go("logs")
    await page.get_by_label("Log", exact=True).select_option("smollm2-135m")
    await expect(page.locator(".lines")).to_contain_text("vLLM", timeout=MS)
    assert tab.complaints == []
