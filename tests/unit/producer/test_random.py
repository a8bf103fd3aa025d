"""Random tickets."""

import re
import uuid
from collections import Counter
from datetime import UTC, datetime

import pytest

from contract.ticket import PRIORITIES, REQUEST_TYPES, Ticket, decode, encode
from producer.sources.random import RandomTickets

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def tickets() -> list[Ticket]:
    source = RandomTickets(seed=7)
    return [source.draw(NOW) for _ in range(20_000)]


def take(count: int, seed: int | None, worker: int = 0) -> list[Ticket]:
    source = RandomTickets(seed, worker)
    return [source.draw(NOW) for _ in range(count)]


def test_every_generated_ticket_is_valid_on_the_wire(tickets: list[Ticket]) -> None:
    assert all(decode(encode(ticket)) == ticket for ticket in tickets)


def test_ids_are_random_uuids_and_never_repeat(tickets: list[Ticket]) -> None:
    assert len({ticket.ticket_id for ticket in tickets}) == 20_000
    assert {uuid.UUID(ticket.ticket_id).version for ticket in tickets} == {4}
    assert {uuid.UUID(ticket.ticket_id).variant for ticket in tickets} == {uuid.RFC_4122}


def test_clients_are_named_client_and_digits(tickets: list[Ticket]) -> None:
    assert all(re.fullmatch(r"CLIENT_[0-9]{5}", ticket.client_id) for ticket in tickets)


def test_a_few_clients_write_most_tickets(tickets: list[Ticket]) -> None:
    counts = Counter(ticket.client_id for ticket in tickets)

    assert len(counts) > 2_000
    assert sum(count for _, count in counts.most_common(1_000)) > 0.7 * 20_000


def test_most_tickets_are_low_or_medium_and_few_are_critical(tickets: list[Ticket]) -> None:
    counts = Counter(ticket.priority for ticket in tickets)

    assert set(counts) == set(PRIORITIES)
    assert counts["low"] + counts["medium"] > 0.7 * 20_000
    assert counts["critical"] < 0.1 * 20_000


def test_technical_tickets_are_critical_more_often_than_questions(tickets: list[Ticket]) -> None:
    by_type = {kind: [t.priority for t in tickets if t.request_type == kind] for kind in REQUEST_TYPES}
    shares = {kind: priorities.count("critical") / len(priorities) for kind, priorities in by_type.items()}

    assert shares["technical"] > 3 * shares["general"]


def test_a_text_speaks_of_what_its_type_says(tickets: list[Ticket]) -> None:
    words = {"account": "account", "billing": "nvoice", "technical": "log of", "general": "discount"}

    for word_of, word in words.items():
        found = Counter(ticket.request_type for ticket in tickets if word in ticket.request)
        assert found.most_common(1)[0][0] == word_of, word


@pytest.mark.parametrize(
    ("body", "unfitting"),
    [
        ("I would like to thank", "Is there a workaround"),
        ("I would like to thank", "I attach a screenshot."),
        ("I would like to thank", "We have a deadline"),
        ("I would like to thank", "Please reply by mail only."),
        ("I would like to thank", "Urgent:"),
        ("I would like to thank", "my first mail got no answer"),
        ("A suggestion: the dashboard", "Is there a workaround"),
        ("Is there a discount", "We have tried another"),
        ("Invoice INV-", "Is there a workaround"),
        ("Please refund one of them", "read the pages on your help site"),
        ("We need five more seats", "I attach a screenshot."),
        ("about a training for", "Please reply by mail only."),
        ("Somebody signed in to my account", "not urgent"),
        ("Urgent:", "not urgent"),
        ("よろしくお願いします", "Hello,"),
        ("Cordialement", "Thanks!"),
    ],
)
def test_a_text_begins_and_ends_as_its_body_allows(tickets: list[Ticket], body: str, unfitting: str) -> None:
    about = [ticket.request for ticket in tickets if body in ticket.request]

    assert len(about) > 50
    assert [text for text in about if unfitting in text] == []


def test_only_texts_about_faults_ask_for_a_workaround(tickets: list[Ticket]) -> None:
    asking = [ticket for ticket in tickets if "Is there a workaround" in ticket.request]

    assert len(asking) > 200
    assert {ticket.request_type for ticket in asking} == {"account", "technical"}


def test_texts_vary_in_words_length_and_language(tickets: list[Ticket]) -> None:
    texts = {ticket.request for ticket in tickets}
    lengths = sorted(len(text) for text in texts)

    assert len(texts) > 12_000
    assert lengths[0] < 80
    assert lengths[-1] > 250
    assert any("パスワード" in text for text in texts)
    assert any("Grüße" in text for text in texts)


def test_no_text_has_an_unfilled_placeholder(tickets: list[Ticket]) -> None:
    assert not [ticket.request for ticket in tickets if re.search(r"[{}]", ticket.request)]


def test_the_same_seed_gives_the_same_tickets() -> None:
    assert take(1_500, seed=42) == take(1_500, seed=42)


def test_the_first_ticket_of_a_seed_stays_what_it_is() -> None:
    first = take(1, seed=42)[0]

    assert (first.ticket_id, first.client_id) == ("83c44944-d860-4c67-a301-7cd1f597b9c4", "CLIENT_31113")


def test_seeds_workers_and_runs_without_seed_differ() -> None:
    sources = [take(50, seed=1), take(50, seed=2), take(50, seed=1, worker=1), take(50, seed=None), take(50, seed=None)]

    assert len({ticket.ticket_id for source in sources for ticket in source}) == 250


def test_a_ticket_carries_the_time_it_was_taken() -> None:
    assert RandomTickets(1).draw(NOW).created_at == NOW
