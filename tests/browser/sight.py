"""What stands on the page, found as a visitor would."""

from typing import Any

# For whatever the page does within one refresh; the rest is for a busy machine.
WAIT_MS = 30_000


def wait_for_text(page: Any, text: str) -> None:
    """Return once ``text`` can be seen."""
    page.get_by_text(text, exact=False).first.wait_for(timeout=WAIT_MS)


def wait_until_still(page: Any) -> None:
    """Return once the page is drawn as a whole: until then an element that has the focus may be replaced."""
    page.locator("[data-test-script-state=notRunning]").wait_for(state="attached", timeout=WAIT_MS)
    # Charts are drawn after that. Once nothing has changed for 0.3 s, they are there.
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
    """Return the cells of a list that are drawn now, as a screen reader meets them."""
    found: list[str] = lists(page)[name].locator("[role=gridcell]").all_text_contents()
    return found
