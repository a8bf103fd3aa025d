"""Make text from outside safe to show: no character in it moves the cursor or is invisible."""

import unicodedata

_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def visible(text: str) -> str:
    r"""Return the text with each invisible or direction-changing character written out as ``\uXXXX``."""
    return "".join(f"\\u{ord(c):04x}" if unicodedata.category(c) in _INVISIBLE and c not in "\n\t" else c for c in text)


def on_one_line(text: str) -> str:
    """Return the text like ``visible``, with ⏎ for each line end and → for each tab."""
    return visible(text.replace("\n", "⏎").replace("\t", "→"))
