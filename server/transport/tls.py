"""The gateway's certificate."""

import ssl
from pathlib import Path

from server.config.settings import ServerConfig, SettingsError


class Certificate:
    """The certificate by which the gateway proves its name, over TLS 1.2 and later."""

    def __init__(self, file: Path, key: Path | None) -> None:
        """``key`` None: ``file`` has it too. Raises SettingsError."""
        self._file = file
        self._key = key
        self.context = _context()
        self.renew()

    def renew(self) -> None:
        """Reads the files again, for later connections. Raises SettingsError, and then the certificate before
        stays."""
        self._load(_context())  # half of another would replace half of the one in use
        self._load(self.context)

    def _load(self, context: ssl.SSLContext) -> None:
        for name, file in (("tls_cert", self._file), ("tls_key", self._key)):
            try:
                if file is not None:
                    file.open("rb").close()
            except OSError as error:
                raise SettingsError(f"server.{name}: {file}: {error.strerror}") from error
        try:
            context.load_cert_chain(self._file, self._key, password=_refuse)
        except (ssl.SSLError, ValueError) as error:
            raise SettingsError(f"server.tls_cert, server.tls_key: {_why(error)}") from error

    def __repr__(self) -> str:
        return f"<Certificate {self._file}>"


def certificate_of(config: ServerConfig) -> Certificate | None:
    """Returns the configured certificate; None: plain HTTP. Raises SettingsError."""
    if config.tls_cert is not None:
        return Certificate(config.tls_cert, config.tls_key)
    if config.tls_key is not None:
        raise SettingsError("server.tls_key without server.tls_cert: name the certificate's file too")
    return None


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _refuse() -> str:
    raise ValueError("the key is encrypted; write it without a pass phrase (openssl pkey -in KEY -out PLAIN)")


def _why(error: ssl.SSLError | ValueError) -> str:
    if not isinstance(error, ssl.SSLError):
        return str(error)
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key is not the certificate's"
    return f"not a certificate and its key in PEM form ({error.reason or error})"
