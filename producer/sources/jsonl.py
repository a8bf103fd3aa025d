"""JSON lines: an object on each line."""

from collections.abc import Iterator
from typing import Any

import msgspec

from producer.sources.lines import Lines, Problem

_decode = msgspec.json.Decoder(float_hook=float).decode


class JsonFormat:
    """JSON lines, which have no header. Raises ValueError if the file is an array, or one value over many lines."""

    def __init__(self, lines: Lines) -> None:
        first = lines.peek().strip()
        if first.startswith("[") or first.endswith(("{", "[", ",")):
            raise ValueError(
                "it is an array, or one JSON value over several lines; turn it into lines with the program jq: "
                "jq -c '.[]' FILE, or, if the array is inside an object: jq -c '.tickets[]' FILE"
            )

    def records(self, lines: Lines) -> Iterator[dict[str, Any] | Problem]:
        """Yield the objects, skipping empty lines; when an object is yielded, ``lines`` stands right after it."""
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
    """Whether a file with this first line holds JSON and not CSV."""
    return first_line.lstrip().startswith(("{", "["))
