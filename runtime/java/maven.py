"""Where jars are downloaded from: a repository in Maven's layout, either a mirror or Spark's own default.

Standard library only, like all of ``runtime/java``: it runs on a bare Python, before any package is installed.
pyspark's files are read, not imported.
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

# Give up after this time without an answer from the server.
_TIMEOUT_S = 30

_IVY_RESOLVER = "org/apache/ivy/plugins/resolver/IBiblioResolver.class"
# A text constant in a class file: a tag, the length in two bytes, the text.
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
        or the connection fails, also during the download.
        """
        try:
            with urllib.request.urlopen(self.address + path, timeout=_TIMEOUT_S) as response:
                # All of it at once, because a read with a size does not report a connection that ended early.
                content: bytes = response.read()
        except (OSError, http.client.HTTPException, ValueError) as error:
            name = path.rpartition("/")[2]
            raise PipelineError(
                f"cannot download {name} from {self.origin} ({_reason(error)}); {self.what_works}"
            ) from None
        return content


def repository(environ: Mapping[str, str] = os.environ) -> Repository:
    """Return the repository in CLIENT_TICKETS_MAVEN_MIRROR, else the one that Spark itself downloads from.

    Raises SettingError when the variable does not hold an address, or when it is not set and pyspark is missing.
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
            # The message does not show the value, because it may hold a password.
            raise SettingError(
                f"{MIRROR} holds a user name, and logins are not supported; set it to a repository without a login"
            )
        # Reading the port raises ValueError if it is not a number.
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
    """Return the default repository of the Apache Ivy in pyspark.

    Spark resolves ``spark.jars.packages`` with it, so these jars come from where Spark itself would download them.
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
        # The error is also the response, and keeps the connection open.
        error.close()
        return f"HTTP {error.code}"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return " ".join(str(reason).split()) or type(error).__name__
