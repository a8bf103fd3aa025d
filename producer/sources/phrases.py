"""The texts of random tickets: sentences by request type, with placeholders that Faker fills, and their frames.

``{…}`` names an entry of the vocabulary in ``producer.sources.random``. A body has a locale, from which its names are
taken, and a mood, which decides how a text may begin and end, so that praise does not end with a request for a
workaround.
"""

from typing import Literal, NamedTuple

from contract.ticket import RequestType

ENGLISH = "en_GB"

Mood = Literal["fault", "bill", "wish", "call", "question", "thanks", "whole"]


class Body(NamedTuple):
    """The middle of a text. Its mood must be a key of ``FRAMES``."""

    mood: Mood
    template: str
    locale: str = ENGLISH


class Frame(NamedTuple):
    """The openings and endings that fit a mood; an empty one means none. They have no placeholders."""

    openings: tuple[str, ...]
    endings: tuple[str, ...]


BODIES: dict[RequestType, tuple[Body, ...]] = {
    "account": (
        Body(
            "fault", "I cannot sign in as {email} since {day}. The page says {error}, and the reset mail never arrives."
        ),
        Body("wish", "Please change the owner of our account from {name} to {name}. {company} has been informed."),
        Body("fault", "Two-factor codes are refused on my new phone ({phone}). How do I get back in?"),
        Body("wish", "My colleague {name} left {company}; please close the login {email} and keep the history."),
        Body("wish", "We need five more seats for {company}, and an administrator role for {name}."),
        Body("wish", "Our address is now {street}, {city}. Please correct it on the profile page of our account."),
        Body("call", "Somebody signed in to my account from {ip} on {day} night. Lock it, and call me on {phone}."),
        Body(
            "whole",
            "Ich komme seit {day} nicht mehr in mein Konto {email}. Es heißt nur: {error}. Grüße, {name}",
            "de_DE",
        ),
        Body(
            "whole",
            "Bonjour, je n'arrive pas à réinitialiser le mot de passe de {email}. Merci d'avance, {name}",
            "fr_FR",
        ),
        Body("whole", "{email} のパスワードを再設定できません。よろしくお願いします。{name}", "ja_JP"),
    ),
    "billing": (
        Body("bill", "Invoice {invoice} charges {amount}, but we agreed on {amount} with {name} from your sales team."),
        Body(
            "bill", "I was charged {amount} twice for {product}. Please refund one of them to the card ending {digits}."
        ),
        Body("question", "Where can I download invoice {invoice} for {month}? Our accountants at {company} need it."),
        Body(
            "wish",
            "Please put the purchase order number {digits}-{digits} on the invoices of {company} from {month} on.",
        ),
        Body("bill", "Our card was declined with {error}. The bank sees no attempt. Could you try {amount} again?"),
        Body("bill", "We cancelled {product} in {month} and were billed {amount} all the same. Who can correct that?"),
        Body("question", "Can {company} pay yearly instead of monthly? What would {product} cost then?"),
        Body(
            "whole",
            "Die Rechnung {invoice} über {amount} passt nicht zur Bestellung. Bitte prüfen. {name}, {company}",
            "de_DE",
        ),
        Body(
            "whole",
            "La facture {invoice} affiche {amount} au lieu de {amount}. Pouvez-vous la corriger ? {name}",
            "fr_FR",
        ),
        Body(
            "whole",
            "¿Por qué la factura {invoice} es de {amount}? El contrato con {company} dice otra cosa. {name}",
            "es_ES",
        ),
    ),
    "technical": (
        Body("fault", "{product} fails with {error} as soon as I open the report for {month}. It worked until {day}."),
        Body("fault", "The API at https://{domain}/v2/orders answers {error} for about one call in {digit}."),
        Body(
            "fault",
            "After the update our {product} syncs no more: the log of {ip} repeats {error} every {digit} seconds.",
        ),
        Body("fault", "Uploads over {digits} MB stop at 99 %. Browser and network were ruled out by {name}."),
        Body(
            "fault", "Search in {product} finds nothing for «{company}», though it exists. Steps: 1. search, 2. wait."
        ),
        Body("fault", "The webhook to https://{domain}/hook was called {digit} times for one event on {day}."),
        Body(
            "fault",
            "Everything is slow since {day}: pages of {product} take {digits} ms and more for all of {company}.",
        ),
        Body(
            "whole",
            "{product} bricht beim Export mit {error} ab. Betroffen sind alle Rechner bei {company}. {name}",
            "de_DE",
        ),
        Body(
            "whole",
            "{product} muestra {error} al guardar desde el {day}. ¿Hay alguna solución? Gracias, {name}",
            "es_ES",
        ),
        Body("whole", "{product} を開くと {error} が表示されます。{company} の全員に発生しています。{name}", "ja_JP"),
    ),
    "general": (
        Body("question", "Does {product} run on the tablets that {company} uses? We could not find it on your pages."),
        Body("thanks", "I would like to thank {name}, who sorted out our move to {city} within a day."),
        Body("question", "Is there a discount for schools? {name} from {city} told me to ask here."),
        Body("question", "Which day next {month} will the webinar about {product} be, and is it recorded?"),
        Body("call", "Please call {name} on {phone} about a training for {digit} people at {company}."),
        Body("wish", "Could you send the documentation of {product} as one PDF to {email}?"),
        Body("thanks", "A suggestion: the dashboard would be easier to read with a dark theme. 🙂"),
        Body("whole", "Quels sont vos horaires pendant les fêtes ? Cordialement, {name}, {company}", "fr_FR"),
        Body("whole", "¿Tienen oficina cerca de {city}? Me gustaría ver {product} en persona. {name}", "es_ES"),
        Body("whole", "Gibt es {product} auch auf Deutsch? Viele Grüße aus {city}, {name}", "de_DE"),
    ),
}

_GREETINGS = ("", "Hello,", "Hi there,", "Hi team,", "Good morning,", "Dear support,")
_AGAIN = ("Second attempt, my first mail got no answer.", "Following up on our call.")
_UNSURE = "I am not sure that this is the right place."
_REGARDS = ("", "Best regards", "Kind regards")
_THANKS = ("Thanks!", "Many thanks in advance.")

FRAMES: dict[Mood, Frame] = {
    # Something does not work.
    "fault": Frame(
        (*_GREETINGS, *_AGAIN, _UNSURE, "Urgent:"),
        (
            *_REGARDS,
            *_THANKS,
            "I attach a screenshot.",
            "We have a deadline and cannot wait much longer.",
            "Please reply by mail only.",
            "You can reach me between 9 and 17 o'clock.",
            "Is there a workaround until it is repaired? We have tried another user and another network, and read "
            "the pages on your help site. None of it made a difference.",
        ),
    ),
    # An invoice or a payment is wrong.
    "bill": Frame(
        (*_GREETINGS, *_AGAIN, _UNSURE, "Urgent:"),
        (
            *_REGARDS,
            *_THANKS,
            "I attach the statement of our bank.",
            "Please reply by mail only.",
            "You can reach me between 9 and 17 o'clock.",
            "Our books for the quarter close on Friday. A written answer would help most, as I can hand it on to our "
            "accountants, who have asked for it twice already.",
        ),
    ),
    # A request to do something.
    "wish": Frame(
        (*_GREETINGS, *_AGAIN, _UNSURE),
        (*_REGARDS, *_THANKS, "Please confirm by mail.", "You can reach me between 9 and 17 o'clock."),
    ),
    # Somebody wants to be called, not written to.
    "call": Frame(
        (*_GREETINGS, *_AGAIN),
        (*_REGARDS, *_THANKS, "Any time between 9 and 17 o'clock is fine."),
    ),
    "question": Frame(
        (*_GREETINGS, *_AGAIN, _UNSURE, "A quick question:"),
        (*_REGARDS, *_THANKS, "Please reply by mail only.", "A link to the right page is enough."),
    ),
    # Praise and suggestions, which need no answer.
    "thanks": Frame(
        (*_GREETINGS, _UNSURE),
        (*_REGARDS, "Keep up the good work!", "No answer needed.", "We enjoy working with you."),
    ),
    # In another language than the frames, so these bodies have their own greetings.
    "whole": Frame(("",), ("",)),
}

PRODUCTS = (
    "Atlas Reports",
    "Atlas Sync",
    "Beacon CRM",
    "Beacon Mobile",
    "Cargo Tracker",
    "Delta Backup",
    "Ledger Pro",
    "Ledger Start",
    "Signal Desk",
    "Vault 360",
)

ERRORS = (
    "HTTP 429",
    "HTTP 500",
    "HTTP 503",
    "“Access denied”",
    "“Session expired”",
    "E-1042",
    "E-2210: timeout",
    "ERR_CONNECTION_RESET",
    "0x80070005",
    "<null> is not an object",
)

DAYS = {
    ENGLISH: ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "de_DE": ("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"),
    "es_ES": ("lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"),
}
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
