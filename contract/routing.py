"""Which team serves which ticket, as data: the only place that knows."""

from contract.ticket import RequestType

# Every request type has its team; there is no catch-all.
TEAMS: dict[RequestType, str] = {
    "account": "Account Management",
    "billing": "Billing Team",
    "technical": "Technical Support",
    "general": "General Support",
}
