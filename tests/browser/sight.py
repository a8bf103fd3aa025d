"""Read the page as a visitor sees it."""

from typing import Any

# Much longer than one refresh takes, for a busy machine.
WAIT_MS = 30_000


def wait_for_text(page: Any, text: str) -> None:
    """Return once ``text`` is visible."""
    page.get_by_text(text, exact=False).first.wait_for(timeout=WAIT_MS)


def wait_until_drawn(page: Any) -> None:
    """Return once no script runs and every chart and list is drawn: until then, elements appear, move and go.

    After a change of a filter, wait first for a text that only the new run shows: until the server has begun that run,
    the page says that no script runs.
    """
    page.wait_for_function(
        """() => {
            const all = selector => [...document.querySelectorAll(selector)];
            return document.querySelector('.stApp').dataset.testScriptState === 'notRunning'
                && !all('[data-stale="true"], .stSkeleton, [data-testid="stSkeleton"]').length
                // A chart offers itself as a picture only after it is drawn.
                && all('.stVegaLiteChart').every(chart => chart.querySelector('canvas, svg')
                    && chart.closest('.stElementContainer').querySelector('[aria-label^="Download as PNG"]'))
                && all('.stDataFrame').every(list => list.querySelector('[data-testid="data-grid-canvas"]'));
        }""",
        timeout=WAIT_MS,
    )


def choose(page: Any, name: str) -> None:
    """Press one of the choices above a panel; if only one can be active, they are radio buttons."""
    page.get_by_role("radio", name=name, exact=True).or_(page.get_by_role("button", name=name, exact=True)).click()


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
