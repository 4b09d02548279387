"""The gateway's certificate."""

import ssl
from pathlib import Path

from server.settings import SettingsError


def tls_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """TLS 1.2 and later. ``key`` None: the certificate's file has it. Raises SettingsError."""
    for name, file in (("tls_cert", certificate), ("tls_key", key)):
        try:
            if file is not None:
                file.open("rb").close()
        except OSError as error:
            raise SettingsError(f"server.{name}: {file}: {error.strerror}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_refuse)
    except (ssl.SSLError, ValueError) as error:
        raise SettingsError(f"server.tls_cert, server.tls_key: {_why(error)}") from error
    return context


def _refuse() -> str:
    raise ValueError("the key is encrypted; write it without a pass phrase (openssl pkey -in KEY -out PLAIN)")


def _why(error: ssl.SSLError | ValueError) -> str:
    if not isinstance(error, ssl.SSLError):
        return str(error)
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key is not the certificate's"
    return f"not a certificate and its key in PEM form ({error.reason or error})"
