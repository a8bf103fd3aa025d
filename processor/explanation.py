"""``--explain``: which team a kind of ticket is assigned to, and by which rule."""

from collections.abc import Iterator

from contract.routing import DEFAULT, first_matches
from processor.config import ExplainConfig
from processor.printed import page, write


def run(config: ExplainConfig) -> None:
    """Print the team on a line of its own, and the rule on the next. Raises OutputUnavailable."""
    write(page(explain(config)))


def explain(config: ExplainConfig) -> Iterator[str]:
    """Yield the team, and which of how many rules names it for which tickets."""
    file = config.routing_file
    rules = (file.routing if file else DEFAULT).rules
    place = first_matches(rules)[config.explain]
    where = f"{file.path}, line {file.lines[place]}" if file else "the default rules"
    yield rules[place].team
    yield f"rule {place + 1} of {len(rules)} ({where}): {rules[place].conditions()}"
