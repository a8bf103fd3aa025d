"""What a state belongs to."""

import pytest

from producer.sources.config import SourceConfig
from producer.sources.kinds import identity


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("https://desk.example.com/tickets", "https://desk.example.com/tickets"),
        (
            "https://ann:s3cret@desk.example.com/tickets?since=1&token=s3cret",
            "https://desk.example.com/tickets with query 2196c255be9e",
        ),
    ],
)
def test_an_api_is_its_address_with_its_query_but_without_secrets(source: str, expected: str) -> None:
    assert identity(SourceConfig(source, "desk", (("ticket_id", "id"),))) == expected
