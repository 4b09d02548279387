"""The page of a gateway in a real browser: Debian's Chromium, driven by Playwright."""

import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, FloatRect, Page, ViewportSize, async_playwright

from tests.server.conftest import checkpoint, prepared, serving, settings  # noqa: F401  # fixtures

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "assets" / "page"
WIDE: ViewportSize = {"width": 1280, "height": 860}
PHONE: ViewportSize = {"width": 360, "height": 740}


def chromium() -> str:
    """The browser's file. Fails the test where there is none."""
    found = os.environ.get("COE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.fail(
            "The page is tested in a real browser, and none is here: apt-get install --no-install-recommends "
            "chromium, or name one in COE_CHROMIUM."
        )
    return found


@dataclass
class Shown:
    """A tab, and what it complained of: errors of scripts, and what the content security policy stopped."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    async def open(self, view: str = "") -> None:
        await self.page.goto(f"{self.url}/ui{view and f'#/{view}'}")

    async def go(self, view: str, title: str = "") -> None:
        """Goes to a view of the page that is open."""
        await self.page.evaluate("view => { location.hash = '#/' + view }", view)
        await self.page.get_by_role(
            "heading", level=1, name=title or view.capitalize(), exact=True
        ).wait_for()

    async def becomes(self, text: str) -> None:
        """Waits until the state of the connection reads ``text``."""
        await self.page.locator("#status", has_text=text).wait_for()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


async def shown(browser: Browser, url: str, **options: Any) -> Shown:
    """A tab of its own, with nothing kept from others. Hosts beside the gateway's are not reached."""
    context = await browser.new_context(**{"viewport": WIDE, "service_workers": "block", **options})
    page = await context.new_page()
    tab = Shown(page, url)
    page.on("pageerror", lambda error: tab.complaints.append(f"error: {error}"))
    page.on(
        "console", lambda message: tab.complaints.append(message.text) if message.type == "error" else None
    )

    async def only_here(route: Any) -> None:
        if route.request.url.startswith(url):
            await route.continue_()
        else:
            tab.complaints.append(f"asked for {route.request.url}")
            await route.abort()

    await context.route("**/*", only_here)
    return tab


async def picture(tab: Shown, name: str) -> None:
    """Keeps a picture for the documentation, where ``COE_PICTURES`` asks for it."""
    if os.environ.get("COE_PICTURES"):
        PICTURES.mkdir(parents=True, exist_ok=True)
        clip: FloatRect = {"x": 0, "y": 0, "width": 1280, "height": 660}
        await tab.page.screenshot(path=PICTURES / f"{name}.png", clip=clip)
