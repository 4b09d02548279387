"""HTTPS with a certificate made here."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from server.config.settings import Settings, SettingsError
from server.transport.tls import Certificate, certificate_of
from tests.server.conftest import Serving, changed
from tests.server.wire import get, wire


@dataclass(frozen=True)
class Made:
    """The files of a certificate for 127.0.0.1 and of its key, and a client's context that trusts it."""

    certificate: Path
    key: Path
    trusting: ssl.SSLContext


def made(folder: Path, name: str) -> Made:
    """A certificate of an authority of its own."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", common_name=name)
    files = Made(folder / f"{name}.pem", folder / f"{name}.key", ssl.create_default_context())
    issued.cert_chain_pems[0].write_to_path(str(files.certificate))
    issued.private_key_pem.write_to_path(str(files.key))
    authority.configure_trust(files.trusting)
    return files


def encrypted(key: Path) -> bytes:
    """The key as a file that asks for a password has it."""
    plain = load_pem_private_key(key.read_bytes(), password=None)
    return plain.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


async def test_a_gateway_with_a_certificate_speaks_https_and_nothing_else(
    serving: Serving, settings: Settings, tmp_path: Path
) -> None:
    ours = made(tmp_path, "gateway")
    async with serving(changed(settings, tls_cert=ours.certificate, tls_key=ours.key)) as gateway:
        url = gateway.url.replace("http:", "https:")
        async with httpx.AsyncClient(base_url=url, verify=ours.trusting) as https:
            body = {"model": "law", "messages": [{"role": "user", "content": "hello"}], "stream": True}
            answer = await https.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200
            assert answer.text.endswith("data: [DONE]\n\n")
        async with wire(gateway.url) as plain:
            await plain.send(get())
            assert b"200" not in await plain.closed()


async def test_a_reload_reads_the_certificate_again(
    serving: Serving, settings: Settings, tmp_path: Path
) -> None:
    old = made(tmp_path, "old")
    async with serving(changed(settings, tls_cert=old.certificate, tls_key=old.key)) as gateway:
        new = made(tmp_path, "new")
        old.certificate.write_bytes(new.certificate.read_bytes())
        old.key.write_bytes(new.key.read_bytes())
        await gateway.reload.now()
        async with wire(gateway.url, tls=new.trusting) as connection:
            await connection.send(get())
            reply = await connection.reply()
            assert reply is not None
            assert reply.status == 200


def test_a_certificate_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path) -> None:
    ours = made(tmp_path, "gateway")
    certificate, key = ours.certificate, ours.key
    other = made(tmp_path, "other").key
    text = tmp_path / "text"
    text.write_text("no certificate")
    locked = tmp_path / "locked.key"
    locked.write_bytes(encrypted(key))
    for file, its_key, said in (
        (tmp_path / "none", None, "server.tls_cert: .*none: No such file"),
        (certificate, tmp_path / "none", "server.tls_key: .*none: No such file"),
        (certificate, other, "the key is not the certificate's"),
        (text, key, "not a certificate and its key in PEM form"),
        (certificate, None, "not a certificate and its key in PEM form"),
        (certificate, locked, "the key is encrypted; .*openssl pkey"),
    ):
        with pytest.raises(SettingsError, match=said) as refused:
            Certificate(file, its_key)
        assert "\n" not in str(refused.value)


def test_a_certificate_that_cannot_be_read_any_more_leaves_the_one_before(tmp_path: Path) -> None:
    ours = made(tmp_path, "gateway")
    in_use = Certificate(ours.certificate, ours.key)
    ours.key.write_bytes(made(tmp_path, "other").key.read_bytes())
    with pytest.raises(SettingsError, match="the key is not the certificate's"):
        in_use.renew()
    assert in_use.context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_key_alone_is_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"name the certificate's file too"):
        certificate_of(changed(settings, tls_key=tmp_path / "key").server)
