"""Read the page as a visitor sees it."""

from typing import Any

# Much longer than one refresh takes, for a busy machine.
WAIT_MS = 30_000


def wait_for_text(page: Any, text: str) -> None:
    """Return once ``text`` is visible."""
    page.get_by_text(text, exact=False).first.wait_for(timeout=WAIT_MS)


def wait_until_still(page: Any) -> None:
    """Return once the page is fully drawn: before that, an element with the focus may be replaced."""
    page.locator("[data-test-script-state=notRunning]").wait_for(state="attached", timeout=WAIT_MS)
    # Charts are drawn later. If nothing has changed for 0.3 s, they are finished.
    page.evaluate(
        """() => new Promise(done => {
            const still = () => { seen.disconnect(); done(); };
            const quiet = () => { clearTimeout(waiting); waiting = setTimeout(still, 300); };
            const seen = new MutationObserver(quiet);
            let waiting = 0;
            seen.observe(document.body, {childList: true, subtree: true});
            quiet();
        })"""
    )


def tile(page: Any, name: str) -> str:
    """Return the figure in the tile ``name``."""
    tiles = page.locator(".tickets-tile").filter(has=page.get_by_text(name, exact=True))
    return str(tiles.locator(".tickets-value").inner_text())


def lists(page: Any) -> dict[str, Any]:
    """Return the lists of the page, in their order."""
    found = page.get_by_test_id("stDataFrame")
    return {name: found.nth(place) for place, name in enumerate(("busiest", "tickets", "reasons"))}


def cells(page: Any, name: str) -> list[str]:
    """Return the cells of a list that are drawn now, as a screen reader reads them."""
    found: list[str] = lists(page)[name].locator("[role=gridcell]").all_text_contents()
    return found
