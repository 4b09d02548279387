"""HTTPS with a certificate made here."""

import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from server.config.settings import Settings, SettingsError
from server.transport.tls import Certificate, certificate_of
from tests.server.conftest import Serving, changed
from tests.server.wire import get, wire


def made(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 signed by itself, and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, "-out", certificate, "-keyout", key], check=True, capture_output=True)
    return certificate, key


async def test_a_gateway_with_a_certificate_speaks_https_and_nothing_else(
    serving: Serving, settings: Settings, tmp_path: Path
) -> None:
    certificate, key = made(tmp_path, "gateway")
    async with serving(changed(settings, tls_cert=certificate, tls_key=key)) as gateway:
        url = gateway.url.replace("http:", "https:")
        trusting = ssl.create_default_context(cafile=str(certificate))
        async with httpx.AsyncClient(base_url=url, verify=trusting) as https:
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
    certificate, key = made(tmp_path, "old")
    async with serving(changed(settings, tls_cert=certificate, tls_key=key)) as gateway:
        new, new_key = made(tmp_path, "new")
        certificate.write_bytes(new.read_bytes())
        key.write_bytes(new_key.read_bytes())
        await gateway.reload.now()
        async with wire(gateway.url, tls=ssl.create_default_context(cafile=str(new))) as connection:
            await connection.send(get())
            reply = await connection.reply()
            assert reply is not None
            assert reply.status == 200


def test_a_certificate_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path) -> None:
    certificate, key = made(tmp_path, "gateway")
    other = made(tmp_path, "other")[1]
    text = tmp_path / "text"
    text.write_text("no certificate")
    locked = tmp_path / "locked.key"
    command = ["openssl", "pkey", "-in", str(key), "-aes256", "-passout", "pass:secret", "-out", str(locked)]
    subprocess.run(command, check=True)
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
    certificate, key = made(tmp_path, "gateway")
    in_use = Certificate(certificate, key)
    key.write_bytes(made(tmp_path, "other")[1].read_bytes())
    with pytest.raises(SettingsError, match="the key is not the certificate's"):
        in_use.renew()
    assert in_use.context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_key_alone_is_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"name the certificate's file too"):
        certificate_of(changed(settings, tls_key=tmp_path / "key").server)
