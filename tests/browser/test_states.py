"""What the page says in each state of an output and its processor: never a traceback."""

from pathlib import Path
from typing import Any

import pytest

from store.status import Progress
from tests.browser.conftest import Open
from tests.browser.published import Published
from tests.browser.sight import cells, choose, tile, wait_for_text
from tests.support.processes import wait_for

pytestmark = pytest.mark.browser


def test_without_an_output_the_page_says_what_to_start_and_then_fills_by_itself(
    published: Published, open_page: Open, folder: Path
) -> None:
    page = open_page()
    wait_for_text(page, "Nothing was published yet")
    wait_for_text(page, str(folder))
    wait_for_text(page, "docker-compose up --build")
    wait_for_text(page, "make demo")
    assert page.get_by_text("Period").count() == 0
    published.says("waiting for broker")
    wait_for_text(page, "Waiting for the broker")

    published.tickets(1_234)

    wait_for_text(page, "How it moves")
    assert tile(page, "Tickets") == "1,234"
    # If somebody removes the output, the page says so again.
    published.output.disk.remove_folder(folder)
    wait_for_text(page, "Nothing was published yet")


def test_an_empty_topic_shows_zeros(published: Published, open_page: Open) -> None:
    published.batch([])
    page = open_page()
    wait_for_text(page, "No ticket yet")
    wait_for_text(page, "No ticket matches the filters.")
    assert [tile(page, name) for name in ("Tickets", "Last hour", "Clients", "Rejected messages")] == ["0"] * 4


def test_the_headline_says_how_many_and_how_fresh(published: Published, open_page: Open) -> None:
    published.tickets(1_000, ago_s=7_200)
    published.tickets(40, ago_s=600, priority="critical", client_id="CLIENT_2")
    published.tickets(3, ago_s=10)
    published.batch([b"no ticket"])
    page = open_page()
    wait_for_text(page, "Last batch")
    names = ("Tickets", "Last hour", "Last minute", "High or critical", "Clients", "Rejected messages")
    assert [tile(page, name) for name in names] == ["1,043", "43", "3", "40", "2", "1"]


@pytest.mark.parametrize(
    ("says", "words", "detail"),
    [
        ({"state": "stopped"}, "Processor stopped", "Start it for newer tickets."),
        ({"state": "stopped", "interval_s": 0}, "Single run, ended", "Run the processor again"),
        ({"state": "idle", "ago_s": 200}, "Processor gone", "No status from it for 3 min"),
        ({"state": "converting"}, "Converting to another format", "the figures are those of the last batch"),
        ({"state": "waiting for broker"}, "Waiting for the broker", "It goes on by itself"),
        (
            {"state": "reading", "progress": Progress(2, 250_000, 1_000_000)},
            "Reading a batch",
            "Batch 2: 250,000 of 1,000,000 messages read.",
        ),
        ({"state": "idle", "unread": {0: 5_005}}, "Waiting for the next batch", "5,000 messages unread"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_figures_stay_whatever_the_processor_does(
    published: Published, open_page: Open, says: dict[str, Any], words: str, detail: str
) -> None:
    published.tickets(5)
    published.says(**says)
    page = open_page()
    wait_for_text(page, words)
    wait_for_text(page, detail)
    assert tile(page, "Tickets") == "5"


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"{ <b>", "is damaged"), (b'{"version": 99}', "a newer release wrote it; run that release")],
    ids=["unreadable", "newer"],
)
def test_an_unreadable_ledger_is_reported_without_a_traceback(
    published: Published, open_page: Open, folder: Path, content: bytes, said: str
) -> None:
    published.tickets(5)
    page = open_page()
    wait_for_text(page, "How it moves")
    manifest = folder / "_manifest.json"
    right = manifest.read_bytes()
    manifest.write_bytes(content)
    wait_for_text(page, "The output cannot be read")
    wait_for_text(page, said)
    manifest.write_bytes(right)
    wait_for_text(page, "How it moves")
    assert tile(page, "Tickets") == "5"


def test_a_missing_file_keeps_the_earlier_figures(published: Published, open_page: Open, folder: Path) -> None:
    published.tickets(5)
    page = open_page("?refresh=paused")
    wait_for_text(page, "How it moves")
    published.tickets(2)
    gone = folder / "tickets_with_assignment/batch-000002-0000.parquet"
    kept = gone.rename(folder / "kept")
    # Until now the page was paused, or it might have read the file before it was gone.
    choose(page, "5 s")
    wait_for_text(page, "The files of the newest commit cannot be read")
    assert tile(page, "Tickets") == "5"
    kept.rename(gone)
    page.locator(".tickets-value").get_by_text("7", exact=True).first.wait_for()


def test_a_switch_of_the_format_is_not_noticed(published: Published, open_page: Open) -> None:
    published.tickets(5)
    page = open_page()
    wait_for_text(page, "How it moves")
    published.convert("json")
    published.tickets(4, "json")
    page.locator(".tickets-value").get_by_text("9", exact=True).first.wait_for()


def test_rejected_messages_duplicates_and_gaps_are_shown_if_there_are_any(
    published: Published, open_page: Open
) -> None:
    published.tickets(5)
    page = open_page()
    wait_for_text(page, "None: every message that was read is a ticket.")
    assert page.get_by_text("Duplicates and gaps").count() == 0
    published.batch([b"<script>window.harmed = 1</script>", b"", b""])
    wait_for_text(page, "3 messages. Each example is the newest message with that reason.")
    wait_for(lambda: "empty message" in cells(page, "reasons"), 20, "the reasons")
    assert "<script>window.harmed = 1</script>" in cells(page, "reasons")
    assert page.evaluate("window.harmed") is None
