"""How nodes prove to each other that they have the shared secret."""

import datetime
import hashlib
import ssl
import tempfile
from dataclasses import dataclass
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_SALT = b"composition-of-experts nodes 1"


@dataclass(frozen=True, slots=True)
class Identity:
    """Identity that follows from the secret: ``token``, which each request has, and a private key with its
    certificate, which all nodes share and trust alone. Guessing a secret costs what scrypt does."""

    token: str
    key_pem: bytes
    certificate_pem: bytes

    @classmethod
    def of(cls, secret: str) -> "Identity":
        derived = hashlib.scrypt(secret.encode(), salt=_SALT, n=2**14, r=8, p=1, dklen=64)
        key = Ed25519PrivateKey.from_private_bytes(derived[:32])
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "composition-of-experts node")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))
            .not_valid_after(datetime.datetime(2999, 1, 1, tzinfo=datetime.UTC))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, None)
        )
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return cls(derived[32:].hex(), private, certificate.public_bytes(Encoding.PEM))

    def __repr__(self) -> str:
        return "<Identity>"

    def context(self, side: Literal["server", "client"]) -> ssl.SSLContext:
        """Makes a context for TLS 1.3 in which both sides show the certificate, and take no other."""
        protocol = ssl.PROTOCOL_TLS_SERVER if side == "server" else ssl.PROTOCOL_TLS_CLIENT
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # addresses are not what it proves
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self.certificate_pem.decode())
        with tempfile.NamedTemporaryFile() as file:  # readable by its owner alone; ssl reads files only
            file.write(self.key_pem + self.certificate_pem)
            file.flush()
            context.load_cert_chain(file.name)
        return context
