"""The CA certificates that may sign a broker's TLS certificate, as text that can be sent to workers."""

import re
import ssl
from collections.abc import Iterable
from pathlib import Path

from runtime.errors import SettingError

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
# In a folder OpenSSL reads only files with such a name: the hash of the certificate's subject.
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")


def trusted_certificates(cafile: Path | None) -> str:
    """Return the certificates of ``cafile`` in PEM; if it is None, those that Python trusts on this machine.

    Raises SettingError when they cannot be read or when there are none.
    """
    if cafile is not None:
        return _joined(f"KAFKA_SSL_CAFILE {cafile}", [cafile])
    default = ssl.get_default_verify_paths()
    files = [Path(default.cafile)] if default.cafile else []
    if default.capath:
        files += sorted(file for file in Path(default.capath).iterdir() if _HASHED.fullmatch(file.name))
    places = " and ".join(filter(None, (default.openssl_cafile, default.openssl_capath)))
    return _joined(f"the trust store of this machine ({places})", files)


def _joined(source: str, files: Iterable[Path]) -> str:
    # The system's folder and file often hold the same certificates: each is taken once.
    certificates: dict[bytes, None] = {}
    try:
        for file in files:
            certificates |= dict.fromkeys(_CERTIFICATE.findall(file.read_bytes()))
    except OSError as error:
        raise SettingError(
            f"{source} cannot be read: {error.strerror}, {error.filename}; set KAFKA_SSL_CAFILE to a readable file"
        ) from None
    if not certificates:
        raise SettingError(
            f"{source} holds no certificate in PEM (-----BEGIN CERTIFICATE-----), so no broker can be trusted; "
            "name the file of the CA that signed the broker's certificate in KAFKA_SSL_CAFILE"
        )
    try:
        text = b"\n".join(certificates).decode("ascii") + "\n"
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        raise SettingError(
            f"{source} holds a damaged certificate; get the file again, or set KAFKA_SSL_CAFILE to another one"
        ) from None
    return text
