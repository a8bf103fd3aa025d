"""Random tickets with realistic texts and frequencies."""

import itertools
import random
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime

from faker import Faker

from contract.ticket import PRIORITIES, REQUEST_TYPES, Priority, RequestType, Ticket, encode
from producer.sources.phrases import BODIES, DAYS, ENGLISH, ERRORS, FRAMES, MONTHS, PRODUCTS
from producer.ticket import Message

TYPE_WEIGHTS: dict[RequestType, int] = {"account": 22, "billing": 26, "technical": 34, "general": 18}

# In the order of PRIORITIES: most tickets are not urgent; technical ones more often are than general questions.
PRIORITY_WEIGHTS: dict[RequestType, tuple[int, ...]] = {
    "account": (42, 40, 14, 4),
    "billing": (38, 42, 16, 4),
    "technical": (26, 42, 23, 9),
    "general": (66, 29, 4, 1),
}

CLIENTS = 10_000
ZIPF_EXPONENT = 1.1  # the busiest tenth of the clients writes about 8 of 10 tickets

# Tickets are drawn this many at a time: one call for many random numbers keeps a ticket at a few microseconds.
_BLOCK = 512
_TEXTS = 400
_VALUES = 200
_PROVIDERS = [f"faker.providers.{name}" for name in ("address", "company", "internet", "person", "phone_number")]
_PLACE = re.compile(r"\{(\w+)\}")

# A UUID of version 4 and variant 1 (RFC 9562, section 5.4): x is any digit, N is one of 8, 9, a and b.
_UUID = b"xxxxxxxx-xxxx-4xxx-Nxxx-xxxxxxxxxxxx"
_VARIANTS = bytes.maketrans(b"0123456789abcdef", b"89ab" * 4)


class RandomTickets:
    """An endless source of tickets; ``draw`` sets ``created_at`` to the time that it is given.

    The same seed and worker give the same tickets except for ``created_at``; another version of this module may give
    others. Without a seed, each source is different.
    """

    def __init__(self, seed: int | None = None, worker: int = 0) -> None:
        chosen = secrets.randbits(64) if seed is None else seed
        texts = _Texts(random.Random(f"{chosen}/texts"))
        self._drafts = itertools.chain.from_iterable(_blocks(random.Random(f"{chosen}/{worker}"), texts))

    def draw(self, created_at: datetime) -> Ticket:
        """Return the next ticket, created at ``created_at``."""
        ticket_id, client_id, request, (request_type, priority) = next(self._drafts)
        return Ticket(ticket_id, client_id, created_at, request, request_type, priority)

    @property
    def ended(self) -> bool:
        """Never."""
        return False

    def take(self, number: int) -> Iterator[Message]:
        """Yield ``number`` messages; each ticket gets the time at which it is taken from the iterator."""
        for _ in range(number):
            ticket = self.draw(datetime.now(UTC))
            yield Message(ticket.client_id.encode(), encode(ticket))

    def confirm(self, acknowledged: int) -> None:
        """Do nothing: random tickets have no state to move."""


Draft = tuple[str, str, str, tuple[RequestType, Priority]]


def _blocks(draw: random.Random, texts: "_Texts") -> Iterator[Iterable[Draft]]:
    """Yield blocks of _BLOCK tickets that only lack their time."""
    clients = [f"CLIENT_{number:05d}" for number in random.Random(CLIENTS).sample(range(1, 100_000), CLIENTS)]
    cumulated = list(itertools.accumulate(1 / rank**ZIPF_EXPONENT for rank in range(1, CLIENTS + 1)))
    kinds = [(kind, priority) for kind in REQUEST_TYPES for priority in PRIORITIES]
    # The product of both weights, because the priorities of each type add up to 100.
    weights = [TYPE_WEIGHTS[kind] * share for kind in REQUEST_TYPES for share in PRIORITY_WEIGHTS[kind]]
    while True:
        ids = _uuids(draw)
        writers = draw.choices(clients, cum_weights=cumulated, k=_BLOCK)
        chosen = draw.choices(kinds, weights, k=_BLOCK)
        yield zip(ids, writers, texts.draw([kind for kind, _ in chosen], draw), chosen, strict=True)


def _uuids(draw: random.Random) -> list[str]:
    """Return _BLOCK random UUIDs. Writing each digit in all of them at once takes a third of the time."""
    digits = draw.randbytes(16 * _BLOCK).hex().encode()
    length, places = len(_UUID), [place for place, letter in enumerate(_UUID) if letter != ord("-")]
    written = bytearray(_UUID * _BLOCK)
    for number, place in enumerate(places):
        column = digits[number :: len(places)]
        if _UUID[place] == ord("N"):
            column = column.translate(_VARIANTS)
        if _UUID[place] != ord("4"):
            written[place::length] = column
    text = written.decode()
    return [text[start : start + length] for start in range(0, len(text), length)]


_Words = dict[str, list[str]]


class _Texts:
    """Pools of texts that are filled once, because Faker is too slow to be called for every ticket.

    Each body has the openings and endings that fit it.
    """

    def __init__(self, draw: random.Random) -> None:
        locales = sorted({body.locale for bodies in BODIES.values() for body in bodies})
        words = {locale: _vocabulary(locale, draw) for locale in locales}
        frames = {
            mood: (
                [f"{opening} " if opening else "" for opening in frame.openings],
                [f" {ending}" if ending else "" for ending in frame.endings],
            )
            for mood, frame in FRAMES.items()
        }
        self._pools = {
            kind: [
                (_fill(body.template, words[body.locale], draw), *frames[body.mood])
                for body in draw.choices(BODIES[kind], k=_TEXTS)
            ]
            for kind in REQUEST_TYPES
        }

    def draw(self, kinds: Sequence[RequestType], draw: random.Random) -> list[str]:
        """Return a text for each of ``kinds``."""
        count, pools, texts = len(kinds), self._pools, []
        picks = draw.choices(range(_TEXTS), k=count)
        # A random byte is the fastest draw, and even enough to choose among some ten entries.
        for kind, pick, first, last in zip(kinds, picks, draw.randbytes(count), draw.randbytes(count), strict=True):
            body, openings, endings = pools[kind][pick]
            texts.append(f"{openings[first % len(openings)]}{body}{endings[last % len(endings)]}")
        return texts


def _fill(template: str, words: _Words, draw: random.Random) -> str:
    return _PLACE.sub(lambda place: draw.choice(words[place[1]]), template)


def _vocabulary(locale: str, draw: random.Random) -> _Words:
    faker = Faker(locale, providers=_PROVIDERS)
    faker.seed_instance(draw.getrandbits(64))
    number = draw.randrange

    def several(make: Callable[[], str]) -> list[str]:
        return [make() for _ in range(_VALUES)]

    return {
        "amount": several(lambda: f"€{number(5, 9000):,}.{number(100):02d}"),
        "city": several(faker.city),
        "company": several(faker.company),
        "day": list(DAYS.get(locale, DAYS[ENGLISH])),
        "digit": [str(digit) for digit in range(2, 10)],
        "digits": several(lambda: str(number(1000, 10_000))),
        "domain": several(lambda: f"{faker.user_name()}.example.com"),
        "email": several(faker.safe_email),
        "error": list(ERRORS),
        "invoice": several(lambda: f"INV-{number(2020, 2030)}-{number(100_000):05d}"),
        "ip": several(lambda: f"203.0.113.{number(1, 255)}"),
        "month": list(MONTHS),
        "name": several(faker.name),
        "phone": several(faker.phone_number),
        "product": list(PRODUCTS),
        "street": several(faker.street_address),
    }
