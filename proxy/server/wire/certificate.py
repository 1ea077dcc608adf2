"""The certificate that TLS clients see, exchanged while the server runs.

A renewal writes two files, one after the other, and nobody can tell which half is new. So the pair is tried in a context of its own. Only a
pair that fits replaces the one in use. A pair that does not fit is tried again when its files change.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from proxy.config import TlsConfig, private_text
from proxy.errors import ConfigError

logger = logging.getLogger(__name__)

Stamp = tuple[tuple[int, int, int], ...]


class Certificate:
    """The configured pair of files. `context` is for the listener: each new connection is shown what was loaded last."""

    def __init__(self, files: TlsConfig) -> None:
        """Raises `ConfigError` if the pair cannot be used."""
        self._files = files
        self._stamp = _stamp(files)
        self._current = _load(files)
        self.context = self._current
        # OpenSSL asks for every client's hello, also for one that names no server.
        self.context.sni_callback = self._present

    def refresh(self) -> None:
        """Take up the files if they have changed since the last call. A pair that cannot be used is logged, and the former one stays."""
        stamp = _stamp(self._files)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._current = _load(self._files)
        except ConfigError as error:
            logger.warning("%s; until then, the former certificate stays in use", error)
        else:
            logger.info("tls: the certificate %s has changed, and is in use for new connections", self._files.certificate)

    def _present(self, connection: ssl.SSLObject, _name: str | None, _listener: ssl.SSLContext) -> None:
        connection.context = self._current


def _load(files: TlsConfig) -> ssl.SSLContext:
    """Make a context of its own for the pair: loading into one in use would leave it broken where key and certificate do not match."""
    private_text(Path(files.key), "tls.key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_passphrase)
    except ssl.SSLError as error:
        raise ConfigError(_in_words(files, error)) from error
    except OSError as error:
        raise ConfigError(f"tls.certificate: cannot read {files.certificate}: {error.strerror}; correct the path") from error
    return context


def _no_passphrase() -> str:
    raise ConfigError("tls.key: the key has a passphrase, and nobody is here to type it; store it without one, readable by its owner alone")


def _in_words(files: TlsConfig, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"tls.key: {files.key} is not the key of {files.certificate}; give the pair that was made together"
    what = (error.reason or "no PEM in it").replace("_", " ").lower()
    return (
        f"tls: {files.certificate} and {files.key} cannot be used ({what}); "
        "both must be PEM: the certificate with its chain, the server's own first, and its private key"
    )


def _stamp(files: TlsConfig) -> Stamp:
    return tuple(_stamp_of(Path(path)) for path in (files.certificate, files.key))


def _stamp_of(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)  # between two names of a renewal, or out of reach: loading says why
    return (status.st_mtime_ns, status.st_size, status.st_ino)
