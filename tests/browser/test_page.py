"""What a visitor does with the page: look, filter, search, select, download, by mouse, keyboard and phone."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest

from contract.ticket import encode
from tests.browser.conftest import Open
from tests.browser.published import Published
from tests.browser.sight import cells, choose, lists, tile, wait_for_text, wait_until_drawn
from tests.support.processes import wait_for
from tests.support.staging import ticket

pytestmark = pytest.mark.browser

# The header of a list, and one row of it, in pixels.
_HEADER, _ROW = 35, 35


def press_row(page: Any, row: int) -> None:
    """Click on the box that selects a row of the list of tickets."""
    # The list moves down when a chart above it is drawn.
    wait_until_drawn(page)
    tickets = lists(page)["tickets"]
    tickets.scroll_into_view_if_needed()
    box = tickets.bounding_box()
    page.mouse.click(box["x"] + 18, box["y"] + _HEADER + _ROW * (row + 0.5))


@pytest.mark.parametrize("file_format", ["parquet", "json"])
def test_a_new_batch_appears_without_losing_scroll_position_filter_or_search(
    published: Published, open_page: Open, file_format: str
) -> None:
    published.tickets(30, file_format, priority="high")
    page = open_page("?search=invoice")
    wait_for_text(page, "30 tickets. Among all 30 tickets.")
    choose(page, "billing")
    page.wait_for_url("**type=billing**")
    wait_for_text(page, "30 tickets, since the output began, billing")
    wait_until_drawn(page)
    page.evaluate("window.sameVisit = true; document.querySelector('[data-testid=stMain]').scrollTo(0, 600)")
    flicker = """
        window.faded = 0;
        new MutationObserver(() => {
            for (const one of document.querySelectorAll('[data-stale="true"]'))
                if (getComputedStyle(one).opacity < 1) window.faded += 1;
            if (!document.querySelector('.tickets-tiles')) window.faded += 1;
        }).observe(document.body, {subtree: true, childList: true, attributes: true});
    """
    page.evaluate(flicker)

    published.tickets(12, file_format, priority="high")

    # Each part of the page refreshes by itself.
    wait_for_text(page, "42 tickets. Among all 42 tickets.")
    wait_for(lambda: tile(page, "Tickets") == "42", 20, "the headline")
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollTop") == 600
    assert page.evaluate("window.sameVisit") is True
    assert page.evaluate("window.faded") == 0
    assert page.get_by_label("Search", exact=True).input_value() == "invoice"
    assert "type=billing" in page.url


def test_a_selected_ticket_stays_the_one_that_is_read(published: Published, open_page: Open) -> None:
    published.tickets(1, priority="high", request="the first one", ago_s=20)
    page = open_page()
    wait_for_text(page, "Select a ticket to read all of it.")
    press_row(page, 0)
    wait_for_text(page, "The list is not refreshed until you deselect the ticket.")
    assert page.locator(".st-key-ticket .tickets-text").inner_text() == "the first one"
    published.tickets(1, priority="high", request="the second one", ago_s=1)
    wait_for_text(page, "2 tickets. Among all 2 tickets.")
    assert page.locator(".st-key-ticket .tickets-text").inner_text() == "the first one"
    press_row(page, 0)
    wait_for_text(page, "Select a ticket to read all of it.")
    wait_for(lambda: "the second one" in cells(page, "tickets"), 10, "the list to go on")


def test_a_paused_page_is_not_refreshed_until_it_is_resumed(published: Published, open_page: Open) -> None:
    published.tickets(5)
    page = open_page("?refresh=paused")
    other = open_page()
    wait_for_text(page, "How it moves")
    published.tickets(2)
    # The other visitor has seen a refresh, so this one would have, too.
    other.locator(".tickets-value").get_by_text("7", exact=True).first.wait_for()
    assert tile(page, "Tickets") == "5"
    choose(page, "5 s")
    page.locator(".tickets-value").get_by_text("7", exact=True).first.wait_for()
    assert "refresh=" not in page.url


def test_filters_and_refresh_are_kept_in_the_url(published: Published, open_page: Open) -> None:
    published.tickets(3, priority="high")
    published.tickets(4, priority="low", request_type="technical")
    page = open_page()
    wait_for_text(page, "7 tickets, since the output began")
    choose(page, "technical")
    wait_for_text(page, "4 tickets, since the output began, technical")
    choose(page, "24 hours")
    wait_for_text(page, "4 tickets, created in the last 24 hours, technical")
    choose(page, "low")
    choose(page, "5 min")
    wait_for(lambda: all(part in page.url for part in ("priority=low", "refresh=5")), 10, "the address")
    query = page.url.partition("?")[2]

    same = open_page(f"?{query}")

    wait_for_text(same, "4 tickets, created in the last 24 hours, technical, low")
    wait_for_text(same, "Newest tickets of priority low")
    assert same.get_by_role("radio", name="5 min").is_checked()
    assert not same.get_by_role("radio", name="5 s").is_checked()


def test_a_url_with_invalid_filters_shows_everything(published: Published, open_page: Open) -> None:
    published.tickets(7)
    page = open_page("?type=%3Cscript%3E&priority=none&period=1&refresh=0&stack=&search=%3Cb%3E%24x%24")
    wait_for_text(page, "7 tickets, since the output began")
    search = page.get_by_label("Search", exact=True)
    wait_for(lambda: search.input_value() == "<b>$x$", 10, "the search")
    wait_for_text(page, "0 tickets. Among all 7 tickets.")


HOSTILE = (
    "<script>window.harmed = 1</script><img src=x onerror='window.harmed = 2'> **bold** $x^2$ :red[red] "
    "[link](javascript:window.harmed=3) https://example.org \u202etxt.exe \u0007 =1+1"
)
SHOWN = HOSTILE.replace("\u202e", "\\u202e").replace("\u0007", "\\u0007")


def test_hostile_text_is_text_everywhere(published: Published, open_page: Open) -> None:
    client = "=<b>C</b>[x](javascript:alert(1))$y$"
    published.tickets(1, priority="critical", client_id=client, request=HOSTILE)
    published.batch([HOSTILE.encode()])
    page = open_page("?search=%3Cscript%3E")
    wait_for_text(page, "1 ticket. Among all 1 ticket.")
    wait_for(lambda: client in cells(page, "busiest"), 20, "the client among the busiest")
    wait_for(lambda: HOSTILE in cells(page, "tickets"), 20, "the ticket in the list")
    press_row(page, 0)
    page.locator(".st-key-ticket .tickets-text").wait_for()
    assert page.locator(".st-key-ticket .tickets-text").inner_text() == SHOWN
    assert client in page.locator(".st-key-ticket").inner_text()
    assert (
        page.locator(".st-key-ticket a, .st-key-ticket img, .st-key-ticket .katex, .st-key-ticket strong").count() == 0
    )
    assert page.evaluate("window.harmed") is None


def test_the_download_holds_the_found_tickets_and_no_formulas(
    published: Published, open_page: Open, tmp_path: Path
) -> None:
    published.tickets(2, priority="high", request="=cmd|' /C calc'!A0", client_id="@x")
    published.tickets(1, priority="low")
    page = open_page()
    with page.expect_download() as started:
        page.get_by_role("button", name=re.compile("Download 2 tickets as CSV")).click()
    assert started.value.suggested_filename == "tickets.csv"
    started.value.save_as(tmp_path / "tickets.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "tickets.csv").read_text(encoding="utf-8-sig"), newline="")))
    assert [(row["client_id"], row["request"]) for row in rows] == [("'@x", "'=cmd|' /C calc'!A0")] * 2
    # Streamlit's own export would contain formulas.
    lists(page)["tickets"].hover()
    page.get_by_role("button", name="Fullscreen: Newest tickets").wait_for()
    assert page.get_by_role("button", name=re.compile("Download as CSV|Export", re.IGNORECASE)).count() == 0


def focused(page: Any) -> str:
    """Return the name of the element with the focus; fail if the focus is not visible."""
    name, shown = page.evaluate(
        """() => {
            const one = document.activeElement, seen = getComputedStyle(one);
            // A list draws its focus itself. A moment after its canvas gets the focus, a cell inside the canvas has it.
            const own = one.closest('canvas') !== null || ['INPUT', 'MAIN'].includes(one.tagName);
            return [one.getAttribute('aria-label') || one.innerText || one.tagName,
                    own || seen.outlineStyle !== 'none' || seen.boxShadow !== 'none'];
        }"""
    )
    assert shown, f"nothing shows that {name!r} has the focus"
    return str(name).split("\n")[-1].strip()


def test_the_keyboard_reaches_filters_search_list_and_download(published: Published, open_page: Open) -> None:
    published.tickets(3, priority="high", request="by keyboard")
    page = open_page("?refresh=paused")
    wait_for_text(page, "Select a ticket to read all of it.")
    wait_until_drawn(page)
    reached: list[str] = []
    while "Download 3 tickets as CSV" not in reached and len(reached) < 60:
        page.keyboard.press("Tab")
        reached.append(focused(page))
        if reached[-1] == "account":
            # Tab enters a group of choices, arrow keys move within it.
            page.keyboard.press("ArrowRight")
            page.keyboard.press("ArrowRight")
            assert focused(page) == "technical"
            page.keyboard.press("Space")
            wait_for_text(page, "0 tickets, since the output began, technical")
            assert focused(page) == "technical"
            page.keyboard.press("Space")
            # The list below may still show what it showed at first, so the text of the load tells the new run.
            wait_for_text(page, "3 tickets, since the output began")
            wait_until_drawn(page)
    assert {"all", "account", "low", "priority", "Search", "Download 3 tickets as CSV"} <= set(reached)


def test_a_phone_shows_everything_in_one_column(published: Published, open_page: Open) -> None:
    published.tickets(1_234_567 // 1_000, priority="high")
    page = open_page(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    wait_for_text(page, "Rejected messages")
    wait_until_drawn(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    wide = page.evaluate(
        """() => [...document.querySelectorAll('.tickets-tile, .tickets-load, .tickets-state, h1, h3, button')]
            .filter(one => one.getBoundingClientRect().right > 390).map(one => one.innerText)"""
    )
    assert wide == []
    tiles = page.locator(".tickets-tile")
    boxes = [tiles.nth(number).bounding_box() for number in range(6)]
    assert len({box["x"] for box in boxes}) == 2


def contrast(page: Any, selector: str) -> float:
    """Return the contrast between a text and the background of the page, as WCAG defines it."""
    value: float = page.evaluate(
        """selector => {
            const parts = text => text.match(/[\\d.]+/g).map(Number);
            const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
                .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
                .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
            const one = document.querySelector(selector);
            const back = parts(getComputedStyle(document.querySelector('.stApp')).backgroundColor);
            const shown = Number(getComputedStyle(one).opacity);
            const front = parts(getComputedStyle(one).color).slice(0, 3)
                .map((c, at) => c * shown + back[at] * (1 - shown));
            const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
            return (a + 0.05) / (b + 0.05);
        }""",
        selector,
    )
    return value


@pytest.mark.parametrize(("scheme", "background"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(15, 20, 27)")])
def test_the_page_follows_the_light_or_dark_theme_and_has_enough_contrast(
    published: Published, open_page: Open, scheme: str, background: str
) -> None:
    published.tickets(50, priority="high")
    page = open_page(color_scheme=scheme)
    wait_for_text(page, "Select a ticket to read all of it.")
    assert page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor") == background
    for selector in (".tickets-value", ".tickets-name", ".tickets-note", ".tickets-caption", ".tickets-load th"):
        assert contrast(page, selector) >= 4.5, selector


def test_every_chart_and_list_has_a_name_for_screen_readers(published: Published, open_page: Open) -> None:
    published.batch([encode(ticket(1, priority="high")), b"bad"])
    page = open_page()
    wait_for_text(page, "Rejected messages")
    for name in ("Busiest clients", "Newest tickets", "Rejected messages by reason"):
        page.get_by_label(name, exact=True).first.wait_for(state="attached")
    for name in ("Number of tickets per", "Average number of tickets by weekday and hour"):
        page.get_by_label(re.compile(name)).first.wait_for(state="attached")
