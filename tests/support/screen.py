"""A display that remembers what it was told to show."""


class Screen:
    """Takes a line every five seconds."""

    every_s = 5.0

    def __init__(self) -> None:
        self.lines: list[str] = []

    def show(self, line: str) -> None:
        """Remember a line."""
        self.lines.append(line)

    def close(self) -> None:
        """Remember that it was closed."""
        self.lines.append("closed")
