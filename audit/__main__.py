"""Look up the known vulnerabilities of all that is locked: ``python -m audit``.

Exit codes: 0 nothing is open, 1 an advisory is open or an exception stale, 3 something could not be looked up.
"""

import sys

from audit import advisories, jars, packages
from runtime.process import entry
from runtime.settings.setting import ROOT

_TOOL = ROOT / ".cache" / "audit"
_BILL = ROOT / ".cache" / "jars.cdx.json"


def main() -> int:
    """Look up everything, print what was found, return the exit code."""
    codes = []

    def body() -> None:
        exceptions = advisories.read_exceptions()
        looks = [packages.look_up(_TOOL), jars.look_up(_BILL)]
        code, lines = advisories.report(looks, exceptions)
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        codes.append(code)

    return entry.run(body) or codes[0]


if __name__ == "__main__":
    raise SystemExit(main())
