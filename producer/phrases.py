"""What clients write: sentences by request type, with places that Faker fills, and the words around them.

Each template belongs to the locale whose names it takes. ``{…}`` names an entry of ``producer.ticket``'s vocabulary.
"""

from contract.ticket import RequestType

ENGLISH = "en_GB"

BODIES: dict[RequestType, tuple[tuple[str, str], ...]] = {
    "account": (
        (ENGLISH, "I cannot sign in as {email} since {day}. The page says {error}, and the reset mail never arrives."),
        (ENGLISH, "Please change the owner of our account from {name} to {name}. {company} has been informed."),
        (ENGLISH, "Two-factor codes are refused on my new phone ({phone}). How do I get back in?"),
        (ENGLISH, "My colleague {name} left {company}; please close the login {email} and keep the history."),
        (ENGLISH, "We need five more seats for {company}, and an administrator role for {name}."),
        (ENGLISH, "Our address is now {street}, {city}. The old one still shows on the profile page."),
        (ENGLISH, "Somebody signed in to my account from {ip} on {day} night. Lock it until I call back on {phone}."),
        ("de_DE", "Ich komme seit {day} nicht mehr in mein Konto {email}. Es heißt nur: {error}. Grüße, {name}"),
        ("fr_FR", "Bonjour, je n'arrive pas à réinitialiser le mot de passe de {email}. Merci d'avance, {name}"),
        ("ja_JP", "{email} のパスワードを再設定できません。よろしくお願いします。{name}"),
    ),
    "billing": (
        (ENGLISH, "Invoice {invoice} charges {amount}, but we agreed on {amount} with {name} from your sales team."),
        (ENGLISH, "I was charged {amount} twice for {product}. Please refund one of them to the card ending {digits}."),
        (
            ENGLISH,
            "Where can I download invoice {invoice} for {month}? Our accountants at {company} are waiting for it.",
        ),
        (
            ENGLISH,
            "Please put the purchase order number {digits}-{digits} on the invoices of {company} from {month} on.",
        ),
        (ENGLISH, "Our card was declined with {error}. The bank sees no attempt. Could you try {amount} again?"),
        (ENGLISH, "We cancelled {product} in {month} and were billed {amount} all the same. Who can correct that?"),
        (ENGLISH, "Can {company} pay yearly instead of monthly? What would {product} cost then?"),
        ("de_DE", "Die Rechnung {invoice} über {amount} passt nicht zur Bestellung. Bitte prüfen. {name}, {company}"),
        ("fr_FR", "La facture {invoice} affiche {amount} au lieu de {amount}. Pouvez-vous la corriger ? {name}"),
        ("es_ES", "¿Por qué la factura {invoice} es de {amount}? El contrato con {company} dice otra cosa. {name}"),
    ),
    "technical": (
        (ENGLISH, "{product} fails with {error} as soon as I open the report for {month}. It worked until {day}."),
        (ENGLISH, "The API at https://{domain}/v2/orders answers {error} for about one call in {digit}."),
        (
            ENGLISH,
            "After the update our {product} syncs no more: the log of {ip} repeats {error} every {digit} seconds.",
        ),
        (ENGLISH, "Uploads over {digits} MB stop at 99 %. Browser and network were ruled out by {name}."),
        (
            ENGLISH,
            "Search in {product} finds nothing for «{company}», though it exists. Steps: 1. search, 2. wait.",
        ),
        (ENGLISH, "The webhook to https://{domain}/hook was called {digit} times for one event on {day}."),
        (ENGLISH, "Everything is slow since {day}: pages of {product} take {digits} ms and more for all of {company}."),
        ("de_DE", "{product} bricht beim Export mit {error} ab. Betroffen sind alle Rechner bei {company}. {name}"),
        ("es_ES", "{product} muestra {error} al guardar desde el {day}. ¿Hay alguna solución? Gracias, {name}"),
        ("ja_JP", "{product} を開くと {error} が表示されます。{company} の全員に発生しています。{name}"),
    ),
    "general": (
        (ENGLISH, "Does {product} run on the tablets that {company} uses? We could not find it on your pages."),
        (ENGLISH, "I would like to thank {name}, who sorted out our move to {city} within a day."),
        (ENGLISH, "Is there a discount for schools? {name} from {city} told me to ask here."),
        (ENGLISH, "Which day next {month} will the webinar about {product} be, and is it recorded?"),
        (ENGLISH, "Please call {name} on {phone} about a training for {digit} people at {company}."),
        (ENGLISH, "Could you send the documentation of {product} as one PDF to {email}?"),
        (ENGLISH, "A suggestion: the dashboard would be easier to read with a dark theme. 🙂"),
        ("fr_FR", "Quels sont vos horaires pendant les fêtes ? Cordialement, {name}, {company}"),
        ("es_ES", "¿Tienen oficina cerca de {city}? Me gustaría ver {product} en persona. {name}"),
        ("de_DE", "Gibt es {product} auch auf Deutsch? Viele Grüße aus {city}, {name}"),
    ),
}

OPENINGS = (
    "",
    "Hello,",
    "Hi there,",
    "Hi team,",
    "Good morning,",
    "Dear support,",
    "Urgent:",
    "Second attempt, my first mail got no answer.",
    "Following up on our call.",
    "I am not sure that this is the right place.",
)

CLOSINGS = (
    "",
    "Thanks!",
    "Many thanks in advance.",
    "Best regards",
    "Please reply by mail only.",
    "I attach a screenshot.",
    "We have a deadline and cannot wait much longer.",
    "It is not urgent.",
    "You can reach me between 9 and 17 o'clock.",
    "Is there a workaround until then? We have tried another browser, another user and another network, and read "
    "the pages on your help site. None of it made a difference.",
)

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
