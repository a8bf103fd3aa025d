"""Which team serves which ticket, as data. No other code names a team."""

from contract.ticket import RequestType

# Every request type has a team; there is no catch-all.
TEAMS: dict[RequestType, str] = {
    "account": "Account Management",
    "billing": "Billing Team",
    "technical": "Technical Support",
    "general": "General Support",
}
