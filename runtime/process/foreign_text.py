"""Text that somebody else wrote, as people may see it: nothing in it moves the cursor or hides."""

import unicodedata

_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def visible(text: str) -> str:
    """Return foreign text with each character that nobody sees, or that turns its neighbours round, written out."""
    return "".join(f"\\u{ord(c):04x}" if unicodedata.category(c) in _INVISIBLE and c not in "\n\t" else c for c in text)


def on_one_line(text: str) -> str:
    """Return foreign text like ``visible``, with a sign for each end of a line and for each tab."""
    return visible(text.replace("\n", "⏎").replace("\t", "→"))
