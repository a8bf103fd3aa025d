"""Random tickets that read like real ones."""

import itertools
import random
import re
import secrets
from collections.abc import Callable, Iterator
from datetime import datetime

from faker import Faker

from contract.ticket import PRIORITIES, REQUEST_TYPES, Priority, RequestType, Ticket
from producer.phrases import BODIES, CLOSINGS, DAYS, ENGLISH, ERRORS, MONTHS, OPENINGS, PRODUCTS

__all__ = ["Ticket", "TicketSource"]

TYPE_WEIGHTS: dict[RequestType, int] = {"account": 22, "billing": 26, "technical": 34, "general": 18}

# In the order of PRIORITIES: most tickets are not pressing, technical ones are more often than questions.
PRIORITY_WEIGHTS: dict[RequestType, tuple[int, ...]] = {
    "account": (42, 40, 14, 4),
    "billing": (38, 42, 16, 4),
    "technical": (26, 42, 23, 9),
    "general": (66, 29, 4, 1),
}

CLIENTS = 10_000
ZIPF_EXPONENT = 1.1  # the busiest tenth of the clients writes about 8 of 10 tickets

# Drawn this many at a time: one call for many draws is what keeps a ticket at a few microseconds.
_BLOCK = 512
_TEXTS = 400
_VALUES = 200
_PROVIDERS = [f"faker.providers.{name}" for name in ("address", "company", "internet", "person", "phone_number")]
_PLACE = re.compile(r"\{(\w+)\}")


class TicketSource:
    """An endless supply of tickets; ``take`` stamps each with the time it is given.

    The same seed and worker give the same tickets but for ``created_at``. Without a seed no two sources are alike.
    """

    def __init__(self, seed: int | None = None, worker: int = 0) -> None:
        chosen = secrets.randbits(64) if seed is None else seed
        texts = _Texts(random.Random(f"{chosen}/texts"))
        self._drafts = _drafts(random.Random(f"{chosen}/{worker}"), texts)

    def take(self, created_at: datetime) -> Ticket:
        """Return the next ticket."""
        ticket_id, client_id, request, request_type, priority = next(self._drafts)
        return Ticket(ticket_id, client_id, created_at, request, request_type, priority)


Draft = tuple[str, str, str, RequestType, Priority]


def _drafts(draw: random.Random, texts: "_Texts") -> Iterator[Draft]:
    clients = [f"CLIENT_{number:05d}" for number in random.Random(CLIENTS).sample(range(1, 100_000), CLIENTS)]
    cumulated = list(itertools.accumulate(1 / rank**ZIPF_EXPONENT for rank in range(1, CLIENTS + 1)))
    kinds = [(kind, priority) for kind in REQUEST_TYPES for priority in PRIORITIES]
    # The product of both weights, because the priorities of each type add up to 100.
    weights = [TYPE_WEIGHTS[kind] * share for kind in REQUEST_TYPES for share in PRIORITY_WEIGHTS[kind]]
    while True:
        hexes = draw.randbytes(16 * _BLOCK).hex()
        writers = draw.choices(clients, cum_weights=cumulated, k=_BLOCK)
        openings = draw.choices(texts.openings, k=_BLOCK)
        closings = draw.choices(texts.closings, k=_BLOCK)
        chosen = draw.choices(kinds, weights, k=_BLOCK)
        picks = draw.choices(range(_TEXTS), k=_BLOCK)
        for position in range(_BLOCK):
            kind, priority = chosen[position]
            body, is_english = texts.bodies[kind][picks[position]]
            text = f"{openings[position]}{body}{closings[position]}" if is_english else body
            yield _uuid4(hexes[32 * position : 32 * position + 32]), writers[position], text, kind, priority


def _uuid4(digits: str) -> str:
    """Write 32 random hexadecimal digits as a UUID of version 4, variant 1 (RFC 9562, section 5.4)."""
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


class _Texts:
    """Pools of finished sentences, filled once, because Faker is too slow to be asked for every ticket.

    The openings and closings are English, so they go with English bodies only.
    """

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        vocabularies = {
            locale: self._vocabulary(locale)
            for locale in sorted({locale for bodies in BODIES.values() for locale, _ in bodies})
        }
        self.openings = [f"{opening} " if opening else "" for opening in OPENINGS]
        self.closings = [f" {closing}" if closing else "" for closing in CLOSINGS]
        self.bodies = {kind: [self._body(kind, vocabularies) for _ in range(_TEXTS)] for kind in REQUEST_TYPES}

    def _body(self, kind: RequestType, vocabularies: dict[str, dict[str, list[str]]]) -> tuple[str, bool]:
        locale, template = self._draw.choice(BODIES[kind])
        words = vocabularies[locale]
        return _PLACE.sub(lambda place: self._draw.choice(words[place[1]]), template), locale == ENGLISH

    def _vocabulary(self, locale: str) -> dict[str, list[str]]:
        faker = Faker(locale, providers=_PROVIDERS)
        faker.seed_instance(self._draw.getrandbits(64))
        number = self._draw.randrange

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
