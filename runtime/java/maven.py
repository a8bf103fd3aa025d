"""Where jars come from: a repository in Maven's layout, which is a mirror or the one that Spark itself would ask.

Standard library only, as everything in ``runtime/java``: it runs on a bare Python, before any package is installed.
pyspark is read, not imported.
"""

import http.client
import importlib.util
import os
import re
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import PipelineError, SettingError

MIRROR = "CLIENT_TICKETS_MAVEN_MIRROR"

# A server that sends nothing for so long counts as gone.
_TIMEOUT_S = 30

_IVY_RESOLVER = "org/apache/ivy/plugins/resolver/IBiblioResolver.class"
# A constant of a class file: a tag, the length of the text in two bytes, the text.
_IVY_CONSTANT = re.compile(rb"\x01(..)(https://[a-z0-9.-]+/maven\d/)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of jars; ``address`` ends with a slash, ``origin`` names it in messages."""

    address: str
    origin: str
    what_works: str

    def fetch(self, path: str) -> bytes:
        """Return the file at ``path`` below the address.

        Uses the proxies of the environment and the CAs of the system. Raises PipelineError when there is no such file
        or the connection fails, also in the middle.
        """
        try:
            with urllib.request.urlopen(self.address + path, timeout=_TIMEOUT_S) as response:
                # All of it at once, because a read with a size does not report that the server hung up early.
                content: bytes = response.read()
        except (OSError, http.client.HTTPException, ValueError) as error:
            name = path.rpartition("/")[2]
            raise PipelineError(
                f"cannot download {name} from {self.origin} ({_reason(error)}); {self.what_works}"
            ) from None
        return content


def repository(environ: Mapping[str, str] = os.environ) -> Repository:
    """Return the repository that CLIENT_TICKETS_MAVEN_MIRROR names, else the one that Spark itself fetches from.

    Raises SettingError when the variable holds no such address, or when it is not set and there is no pyspark.
    """
    if mirror := environ.get(MIRROR):
        return Repository(
            _checked(mirror), f"{MIRROR}={mirror}", "check that variable and the network, then run the command again"
        )
    address = _address_in_ivy()
    return Repository(address, address, "check the network and run the command again")


def _checked(mirror: str) -> str:
    try:
        parts = urllib.parse.urlsplit(mirror)
        if "@" in parts.netloc:
            # Its value stays out of the message: a password does not belong into a log.
            raise SettingError(f"{MIRROR} holds a user name, which is not sent; name a repository that asks for none")
        # Reading the port raises ValueError when it is not one.
        on_a_server = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        usable = on_a_server or parts.scheme == "file"
    except ValueError:
        usable = False
    if not usable:
        raise SettingError(
            f"{MIRROR}={mirror} is not the address of a repository; it begins with https://, http:// or file://"
        )
    return mirror.rstrip("/") + "/"


def _address_in_ivy() -> str:
    """Return the address of the central repository that the Apache Ivy in pyspark holds as its default.

    Spark resolves ``spark.jars.packages`` with it, so these jars come from where Spark itself would fetch them, and the
    address has one place.
    """
    found = set(_addresses_in_ivy())
    if len(found) != 1:
        raise SettingError(
            "no address to download jars from: pyspark is missing, or its Apache Ivy names no default repository; "
            f"install the Python packages (make setup), or set {MIRROR} to the address of a Maven repository"
        )
    return found.pop()


def _addresses_in_ivy() -> Iterator[str]:
    package = importlib.util.find_spec("pyspark")
    for folder in package.submodule_search_locations or () if package else ():
        for jar in Path(folder, "jars").glob("ivy-*.jar"):
            try:
                with zipfile.ZipFile(jar) as archive:
                    constants = _IVY_CONSTANT.findall(archive.read(_IVY_RESOLVER))
            except (OSError, KeyError, zipfile.BadZipFile):
                continue
            yield from (text.decode() for size, text in constants if int.from_bytes(size, "big") == len(text))


def _reason(error: Exception) -> str:
    """Return the cause of a failed download in one line."""
    if isinstance(error, urllib.error.HTTPError):
        # The error is the response as well, and holds the connection.
        error.close()
        return f"HTTP {error.code}"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return " ".join(str(reason).split()) or type(error).__name__
