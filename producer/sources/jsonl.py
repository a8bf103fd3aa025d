"""JSON lines: an object on each line."""

from collections.abc import Iterator
from typing import Any

import msgspec

from producer.sources.lines import Lines, Problem

_decode = msgspec.json.Decoder(float_hook=float).decode


class JsonFormat:
    """JSON lines need no beginning. Raises ValueError with what is wrong when ``lines`` are something else."""

    def __init__(self, lines: Lines) -> None:
        if lines.peek().lstrip().startswith("["):
            raise ValueError(
                "it is one JSON array; the program jq makes lines of it: jq -c '.[]' FILE, or of an array inside of an "
                "object: jq -c '.tickets[]' FILE"
            )

    def records(self, lines: Lines) -> Iterator[dict[str, Any] | Problem]:
        """Yield the objects, without empty lines; ``lines`` is behind an object when it is yielded."""
        while True:
            lines.begin()
            line = next(lines, None)
            if line is None:
                return
            if not line.strip():
                continue
            if lines.undecodable:
                yield Problem("holds bytes that are not in the encoding of the file")
                continue
            try:
                content = _decode(line)
            except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
                cut = lines.unterminated
                yield Problem("the file ends in the middle of it" if cut else f"is not JSON: {error}", unfinished=cut)
                continue
            yield content if isinstance(content, dict) else Problem("is not a JSON object")


def is_json(first_line: str) -> bool:
    """Whether a file whose first line this is holds JSON, and not CSV."""
    return first_line.lstrip().startswith(("{", "["))
