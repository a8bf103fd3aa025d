"""The panels below the headline: the load, single tickets, and messages that are left out."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from contract.ticket import PRIORITIES, REQUEST_TYPES, URGENT
from dashboard import charts, figures, markup, spreadsheet
from dashboard.choice import Choice
from dashboard.snapshot import Look, Snapshot, Snapshots
from runtime.process.foreign_text import visible
from runtime.process.words import number, things
from store.condition import known_up_to

_LISTED = 500
_BUSIEST = 10

_TEXT = st.column_config.TextColumn
_NUMBER = st.column_config.NumberColumn


def _time(label: str) -> Any:
    return st.column_config.DatetimeColumn(label, format="YYYY-MM-DD HH:mm:ss", timezone="UTC")


def one_of(label: str, options: Sequence[str], key: str, **look: Any) -> str:
    """Let the visitor choose one of ``options`` (default: the first); the URL of the page keeps it as ``key``."""
    chosen: str | None = st.segmented_control(
        label, options, default=options[0], required=True, key=key, bind="query-params", **look
    )
    # The URL may have nothing after the equals sign.
    return chosen or options[0]


def overview(source: Snapshots, chosen: Choice) -> None:
    """Show the tickets over time, the load of the teams, the week, and the busiest clients."""
    look = source.look()
    if look.snapshot is None:
        return
    of, as_of = look.snapshot, known_up_to(look.snapshot.manifest, look.status)
    theme: charts.Theme = "dark" if st.context.theme.type == "dark" else "light"
    with st.container(border=True):
        _movement(of, chosen, as_of)
    with st.container(border=True):
        _load(of, chosen, as_of)
    week, clients = st.columns([3, 2], gap="small")
    with week, st.container(border=True, height="stretch"):
        _week(of, chosen, as_of, theme)
    with clients, st.container(border=True, height="stretch"):
        st.subheader("Busiest clients", anchor=False)
        st.html(markup.caption(_among(of)))
        st.dataframe(
            figures.busiest(of.tickets, chosen, as_of, _BUSIEST),
            hide_index=True,
            key="busiest",
            alt="Busiest clients",
            column_config={
                "client_id": _TEXT("client"),
                "tickets": _NUMBER("tickets", format="localized"),
                "urgent": _NUMBER("high or critical", format="localized"),
            },
        )


def _movement(of: Snapshot, chosen: Choice, as_of: datetime) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader("How it moves", anchor=False, width="content")
        by = one_of("Stacked by", list(charts.STACKS), "stack", label_visibility="collapsed")
    column = charts.STACKS[by]
    moved = figures.movement(of.hours, of.tickets, chosen, as_of, column)
    told = f"Tickets by the {moved.unit} in which they were created, in UTC"
    if moved.outside:
        told += f"; left out: {things(moved.outside, 'ticket', 'tickets')} of more than a year ago, or of the future"
    st.html(markup.caption(told))
    if not moved.table.num_rows:
        st.text("No ticket matches the filters.")
        return
    rank = [charts.rank(column, name) for name in moved.table["name"].to_pylist()]
    st.vega_lite_chart(
        moved.table.append_column("rank", pa.array(rank, pa.int64())),
        charts.movement(moved.unit, column),
        key=f"movement-{moved.unit}-{column}",
        alt=f"Number of tickets per {moved.unit}, stacked by {by}",
    )


def _load(of: Snapshot, chosen: Choice, as_of: datetime) -> None:
    hours = chosen.rows(of.hours, "hour", as_of)
    tickets = pc.sum(hours["count"]).as_py() or 0
    st.subheader("Load", anchor=False)
    st.html(markup.caption(f"{things(tickets, 'ticket', 'tickets')}, {chosen.describe()}"))
    team, kind, priority = st.columns(3, gap="large")
    teams = figures.load_of_teams(hours, of.manifest, chosen)
    with team:
        if teams is None:
            st.text("The rules for some of these tickets have changed, so they cannot be counted by team.")
        else:
            st.html(markup.load("by team", teams, {}))
    with kind:
        st.html(markup.load("by request type", figures.load(hours, "request_type", REQUEST_TYPES), {}))
    with priority:
        st.html(markup.load("by priority", figures.load(hours, "priority", PRIORITIES), charts.COLOURS["priority"]))


def _week(of: Snapshot, chosen: Choice, as_of: datetime, theme: charts.Theme) -> None:
    week = figures.heatmap(of.hours, chosen, as_of)
    told = "Average for each hour of the week, in UTC"
    if week.num_rows < figures.HOURS_OF_A_WEEK:
        told += f"; {week.num_rows} of {figures.HOURS_OF_A_WEEK} hours have occurred so far"
    st.subheader("When tickets come", anchor=False)
    st.html(markup.caption(told))
    if week.num_rows:
        st.vega_lite_chart(
            week, charts.heatmap(theme), key=f"week-{theme}", alt="Average number of tickets by weekday and hour"
        )


def single_tickets(source: Snapshots, chosen: Choice) -> None:
    """List the newest tickets, to search and to read."""
    look = source.look()
    if look.snapshot is None:
        return
    with st.container(border=True):
        st.subheader(f"Newest tickets of priority {' or '.join(chosen.priorities or URGENT)}", anchor=False)
        text = st.text_input(
            "Search",
            key="search",
            bind="query-params",
            placeholder="part of a request, a client, a ticket id, a team",
            type="search",
            live=True,
        )
        _found(look, look.snapshot, chosen, text or "")


def _found(look: Look, of: Snapshot, chosen: Choice, text: str) -> None:
    found = figures.searched(of.tickets, chosen, text, known_up_to(of.manifest, look.status))
    told = things(found.num_rows, "ticket", "tickets")
    if found.num_rows > _LISTED:
        told += f", the newest {number(_LISTED)} of them listed"
    st.html(markup.caption(f"{told}. {_among(of)}."))
    _list(found.slice(0, _LISTED), f"{chosen} {text}")
    st.download_button(
        f"Download {things(found.num_rows, 'ticket', 'tickets')} as CSV",
        lambda: spreadsheet.to_csv(found),
        file_name="tickets.csv",
        mime="text/csv",
        key="csv",
        on_click="ignore",
        icon=":material/download:",
        disabled=not found.num_rows,
    )


def _list(listed: pa.Table, asked: str) -> None:
    state = st.session_state
    if state.get("asked") != asked:
        state.asked, state.lists = asked, state.get("lists", 0) + 1
        state.pop("standing", None)
    shown = state.get("standing", listed)
    event: Any = st.dataframe(
        shown.select(["created_at", "priority", "request_type", "assigned_team", "client_id", "request"]),
        hide_index=True,
        height=420,
        key=f"tickets-{state.lists}",
        on_select="rerun",
        selection_mode="single-row",
        alt="Newest tickets",
        column_config={
            "created_at": _time("created (UTC)"),
            "priority": _TEXT("priority"),
            "request_type": _TEXT("type"),
            "assigned_team": _TEXT("team"),
            "client_id": _TEXT("client"),
            "request": _TEXT("request", width="large"),
        },
    )
    rows = event.selection.rows
    if rows and rows[0] < shown.num_rows:
        # Keep the list while a row is selected: new tickets would move another one into that row.
        state.standing = shown
        _whole_ticket(shown.slice(rows[0], 1).to_pylist()[0])
    else:
        state.pop("standing", None)
        st.html(markup.caption("Select a ticket to read all of it."))


def _whole_ticket(ticket: dict[str, Any]) -> None:
    created = f"{ticket['created_at']:%Y-%m-%d %H:%M:%S} UTC"
    names = ("priority", "request_type", "assigned_team", "client_id", "ticket_id")
    with st.container(border=True, key="ticket"):
        st.html(markup.caption(" · ".join([created, *(visible(ticket[name]) for name in names)])))
        st.html(markup.plain(visible(ticket["request"])))
        st.html(markup.caption("The list is not refreshed until you deselect the ticket."))


def left_out(source: Snapshots) -> None:
    """Show messages that are not among the tickets, and why."""
    of = source.look().snapshot
    if of is None:
        return
    with st.container(border=True):
        st.subheader("Rejected messages", anchor=False)
        if of.manifest.totals.rejected:
            _rejected(of)
        else:
            st.html(markup.caption("None: every message that was read is a ticket."))
    lost = figures.losses(of.manifest)
    if lost:
        with st.container(border=True):
            _duplicates_and_gaps(of, lost)


def _rejected(of: Snapshot) -> None:
    told = things(of.manifest.totals.rejected, "message", "messages")
    if of.rejected.num_rows < of.manifest.totals.rejected:
        told += f", of which the newest {number(of.rejected.num_rows)} are counted here"
    st.html(markup.caption(f"{told}. Each example is the newest message with that reason."))
    st.dataframe(
        figures.reasons(of.rejected),
        hide_index=True,
        key="reasons",
        alt="Rejected messages by reason",
        column_config={
            "reason": _TEXT("reason", width="large"),
            "messages": _NUMBER("messages", format="localized"),
            "example": _TEXT("example", width="medium"),
            "partition": _NUMBER("partition"),
            "offset": _NUMBER("offset", format="localized"),
            "received_at": _time("received (UTC)"),
        },
    )


_LOSSES = {
    "duplicates": "left out as duplicates",
    "forgotten": "forgotten on request",
    "gaps": "deleted from the topic before they were read, and accepted with --accept-gap",
}


def _duplicates_and_gaps(of: Snapshot, lost: dict[str, int]) -> None:
    st.subheader("Duplicates and gaps", anchor=False)
    for name, messages in lost.items():
        st.text(f"{things(messages, 'message', 'messages')}: {_LOSSES[name]}")
    if of.manifest.gaps:
        st.dataframe(
            figures.gaps(of.manifest),
            hide_index=True,
            width="content",
            key="gaps",
            alt="Gaps",
            column_config={name: _NUMBER(format="localized") for name in ("from offset", "to offset")},
        )


def _among(of: Snapshot) -> str:
    if of.tickets.num_rows < of.manifest.totals.tickets:
        return f"Among the newest {number(of.tickets.num_rows)} tickets"
    return f"Among all {things(of.tickets.num_rows, 'ticket', 'tickets')}"
