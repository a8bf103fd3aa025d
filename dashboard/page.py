"""The layout of the page and its refreshes. Streamlit runs this for each visitor and each change of a filter."""

import os
from datetime import UTC, datetime

import streamlit as st

from contract.ticket import PRIORITIES, REQUEST_TYPES
from dashboard import figures, markup, panels
from dashboard.choice import PERIODS, REFRESHES, Choice
from dashboard.markup import Tile
from dashboard.snapshot import Look, Snapshots
from runtime.process.words import moment, number, share, span, things
from runtime.settings.location import OutputLocation
from runtime.settings.setting import ROOT
from store.condition import condition, known_up_to, unread


def _snapshots(folder: str) -> Snapshots:
    return Snapshots(OutputLocation.parse(folder, ROOT))


# All visitors share one cache of an output.
snapshots = st.cache_resource(_snapshots, show_spinner=False)


def main() -> None:
    """Lay out the page; its fragments run again at each refresh."""
    st.set_page_config(page_title="Client tickets", layout="wide")
    st.html(ROOT / "dashboard" / "style.css")
    source: Snapshots = snapshots(os.environ["OUTPUT_PATH"])
    there = source.look().snapshot is not None
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title("Client tickets", anchor=False, width="content")
        every = REFRESHES[panels.one_of("Refresh every", list(REFRESHES), "refresh")]
    st.fragment(headline, run_every=every)(source, there)
    if there:
        chosen = filters()
        st.fragment(panels.overview, run_every=every)(source, chosen)
        st.fragment(panels.single_tickets, run_every=every)(source, chosen)
        st.fragment(panels.left_out, run_every=every)(source)


def headline(source: Snapshots, there: bool) -> None:
    """Show the totals, how fresh they are, and what the processor does; or why there is nothing to show."""
    look, now = source.look(), datetime.now(UTC)
    if (look.snapshot is not None) != there:
        # The rest of the page must appear or disappear.
        st.rerun()
    if look.snapshot is None:
        nothing_to_show(look, now)
        return
    manifest = look.snapshot.manifest
    age = span((now - manifest.updated_at).total_seconds())
    facts = [f"Last batch {age} ago, at {moment(manifest.updated_at, now)}"]
    waiting = unread(manifest, look.status)
    if waiting:
        facts.append(f"{things(waiting, 'message', 'messages')} unread when it last checked")
    st.html(markup.state(condition(look.status, now, manifest), facts))
    if look.problem:
        explain("The files of the newest commit cannot be read; these are the figures of an earlier one", look.problem)
    st.html(markup.tiles(tiles(look, now)))
    if not manifest.totals.tickets:
        with st.container(border=True):
            st.subheader("No ticket yet", anchor=False)
            st.text("The processor has read the topic, but found no ticket in it. Send some, for instance:")
            st.code("python producer/ticket_producer.py --rate 20", language=None)


def tiles(look: Look, now: datetime) -> list[Tile]:
    """Return the headline figures."""
    of = look.snapshot
    assert of is not None
    totals = of.manifest.totals
    as_of = known_up_to(of.manifest, look.status)
    until = f"up to {moment(as_of, now)}"
    return [
        Tile("Tickets", number(totals.tickets), f"in {things(of.manifest.batch_id, 'batch', 'batches')}"),
        Tile("Last hour", at_least(figures.created_in(of.hours, of.tickets, figures.HOUR, as_of)), until),
        Tile("Last minute", at_least(figures.created_in(of.hours, of.tickets, figures.MINUTE, as_of)), until),
        Tile("High or critical", number(totals.urgent), f"{share(totals.urgent, totals.tickets)} of all tickets"),
        Tile("Clients", number(totals.unique_clients), "with at least one ticket"),
        Tile(
            "Rejected messages",
            number(totals.rejected),
            f"{share(totals.rejected, totals.rejected + totals.tickets)} of all messages",
        ),
    ]


def at_least(count: figures.Count) -> str:
    """Return a count as text, with "≥" if there may be more."""
    return number(count.tickets) if count.exact else f"≥ {number(count.tickets)}"


def nothing_to_show(look: Look, now: datetime) -> None:
    """Show why there are no figures, and what would help."""
    if look.status is not None:
        st.html(markup.state(condition(look.status, now), []))
    if look.problem:
        explain("The output cannot be read", look.problem)
        return
    with st.container(border=True):
        st.subheader("Nothing was published yet", anchor=False)
        st.text("The page fills by itself once the processor has published its first batch in this folder:")
        st.code(os.environ["OUTPUT_PATH"], language=None, wrap_lines=True)
        st.text("With Docker, this starts everything:")
        st.code("docker-compose up --build", language=None)
        st.text("Without Docker, the first command runs a small pipeline, the second one only the processor:")
        st.code("make demo\npython processor/spark_processor.py --interval 30", language=None, wrap_lines=True)


def explain(title: str, problem: str) -> None:
    """Show an error message as plain text."""
    with st.container(border=True):
        st.subheader(title, anchor=False)
        st.html(markup.plain(problem))


def filters() -> Choice:
    """Show the filters and return what is chosen; the URL of the page keeps it."""
    with st.container(horizontal=True, gap="medium"):
        period = panels.one_of("Period", list(PERIODS), "period")
        types = st.pills("Request type", REQUEST_TYPES, selection_mode="multi", key="type", bind="query-params")
        priorities = st.pills("Priority", PRIORITIES, selection_mode="multi", key="priority", bind="query-params")
    return Choice(tuple(types), tuple(priorities), period)


if __name__ == "__main__":
    main()
