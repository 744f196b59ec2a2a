"""TLS with a real broker: what goes wrong is named, and certificates may be renewed while the daemon runs."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import uvloop

from ingestd import tls
from ingestd.demo.servers import PrivateMosquitto
from ingestd.errors import BrokerError, ConfigError
from ingestd.mqtt.timing import Timing
from tests.support.certificates import Authority, Certificate, openssl
from tests.support.polling import eventually
from tests.support.sessions import connected, new_session

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

QUICK = Timing(connect=2.0, answer=2.0, pause_first=0.02, pause_longest=0.1)
FILES = ["cafile ca.crt", "certfile server.crt", "keyfile server.key"]
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture(scope="module")
def good(authority: Authority) -> Certificate:
    return authority.issue("good")


@contextmanager
def tls_broker(authority: Authority, server: Certificate, *lines: str) -> Iterator[str]:
    """The URL of a broker with this certificate."""
    with PrivateMosquitto(config=[*FILES, *lines], files=tls_files(authority, server)) as broker:
        yield broker.url.replace("mqtt://", "mqtts://")


def reason_against(url: str, context: Callable[[], ssl.SSLContext | None], loop: str) -> str:
    """What a session says that cannot be opened."""

    async def fail() -> str:
        with pytest.raises(BrokerError) as caught:
            await new_session(url, timing=QUICK, tls=context).open()
        return str(caught.value)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(fail())


def trusting(authority: Authority, own: Certificate | None = None) -> Callable[[], ssl.SSLContext]:
    return lambda: tls.context(
        ca=authority.own.certificate,
        certificate=own.certificate if own else None,
        key=own.key if own else None,
    )


async def test_a_session_over_tls_with_a_certificate_of_ours(authority: Authority, good: Certificate) -> None:
    with tls_broker(authority, good, "require_certificate true") as url:
        async with connected(url, timing=QUICK, tls=trusting(authority, authority.issue("client"))) as session:
            assert session.reason is None


@pytest.mark.parametrize("loop", LOOPS)
def test_an_unknown_authority_is_named_with_the_setting(
    authority: Authority, stranger: Authority, good: Certificate, loop: str
) -> None:
    with tls_broker(authority, good) as url:
        reason = reason_against(url, trusting(stranger), loop)

    assert reason.startswith("127.0.0.1:")
    assert "authority that signed its certificate is not known here: INGESTD_MQTT_CA_FILE must name" in reason


@pytest.mark.parametrize("loop", LOOPS)
def test_a_certificate_for_another_name_is_named_with_the_setting(authority: Authority, loop: str) -> None:
    with tls_broker(authority, authority.issue("other-host", address="192.0.2.1")) as url:
        reason = reason_against(url, trusting(authority), loop)

    assert "its certificate is for another address: INGESTD_MQTT_URL must have the name" in reason


@pytest.mark.parametrize("loop", LOOPS)
def test_an_expired_certificate_is_to_be_renewed_at_the_broker(authority: Authority, loop: str) -> None:
    with tls_broker(authority, authority.issue("expired", days=-1)) as url:
        reason = reason_against(url, trusting(authority), loop)

    assert "its certificate has expired: renew it at the broker" in reason


@pytest.mark.parametrize("loop", LOOPS)
def test_a_port_without_tls_is_named(authority: Authority, loop: str, broker: PrivateMosquitto) -> None:
    reason = reason_against(broker.url.replace("mqtt://", "mqtts://"), trusting(authority), loop)

    assert "it does not speak TLS on this port: INGESTD_MQTT_URL needs mqtt://" in reason


@pytest.mark.parametrize("loop", LOOPS)
def test_a_port_with_tls_that_is_spoken_to_without_is_named(authority: Authority, good: Certificate, loop: str) -> None:
    with tls_broker(authority, good) as url:
        reason = reason_against(url.replace("mqtts://", "mqtt://"), lambda: None, loop)

    assert "TLS" in reason
    assert "mqtts://" in reason


@pytest.mark.parametrize("version", ["tlsv1.2", "tlsv1.3"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_broker_that_wants_a_certificate_of_ours_says_which_settings(
    authority: Authority, good: Certificate, loop: str, version: str
) -> None:
    with tls_broker(authority, good, "require_certificate true", f"tls_version {version}") as url:
        reason = reason_against(url, trusting(authority), loop)

    # Where its reset overtakes its alert, all that is known is that it ended the connection.
    assert "certificate of ours" in reason
    assert "INGESTD_MQTT_CERT_FILE" in reason


@pytest.mark.parametrize("loop", LOOPS)
def test_a_certificate_of_ours_that_the_broker_does_not_trust_is_named(
    authority: Authority, stranger: Authority, good: Certificate, loop: str
) -> None:
    with tls_broker(authority, good, "require_certificate true") as url:
        reason = reason_against(url, trusting(authority, stranger.issue("client")), loop)

    assert "certificate" in reason
    assert "INGESTD_MQTT_CERT_FILE" in reason


async def test_certificates_are_read_again_at_each_connection(
    authority: Authority, good: Certificate, tmp_path: Path
) -> None:
    own = Certificate(tmp_path / "client.crt", tmp_path / "client.key")
    renewed = authority.issue("client")
    shutil.copy(renewed.certificate, own.certificate)
    shutil.copy(renewed.key, own.key)
    with PrivateMosquitto(config=[*FILES, "require_certificate true"], files=tls_files(authority, good)) as broker:
        url = broker.url.replace("mqtt://", "mqtts://")
        async with connected(url, timing=QUICK, tls=trusting(authority, own)) as session:
            own.certificate.write_text("half a certifica")
            broker.stop()
            broker.start()
            await eventually(lambda: "INGESTD_MQTT_CERT_FILE" in (session.reason or ""))
            shutil.copy(renewed.certificate, own.certificate)

            await eventually(lambda: session.reason is None)


def tls_files(authority: Authority, server: Certificate) -> dict[str, str]:
    return {
        "ca.crt": authority.own.certificate.read_text(),
        "server.crt": server.certificate.read_text(),
        "server.key": server.key.read_text(),
    }


# Files -----------------------------------------------------------------------------------------------------------


def refusal(*, ca: Path | None = None, certificate: Path | None = None, key: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        tls.context(ca=ca, certificate=certificate, key=key)
    return str(caught.value)


def test_an_encrypted_key_says_so_and_asks_nobody(good: Certificate) -> None:
    encrypted = good.encrypt_key()

    reason = refusal(certificate=good.certificate, key=encrypted)

    assert f"INGESTD_MQTT_KEY_FILE: the key in {encrypted} is encrypted" in reason


def test_each_file_that_cannot_be_used_is_named_with_its_setting(
    authority: Authority, good: Certificate, tmp_path: Path
) -> None:
    nowhere, nonsense = tmp_path / "nowhere", tmp_path / "nonsense"
    nonsense.write_text("nonsense")
    other = authority.issue("other")

    assert f"INGESTD_MQTT_CA_FILE: {nowhere} cannot be used: No such file or directory" == refusal(ca=nowhere)
    assert f"INGESTD_MQTT_CA_FILE: {nonsense} cannot be used: holds no certificate, or a broken one (PEM)" == refusal(
        ca=nonsense
    )
    assert f"INGESTD_MQTT_CERT_FILE: {nowhere} cannot be used: No such file or directory" == refusal(
        certificate=nowhere, key=good.key
    )
    assert f"INGESTD_MQTT_KEY_FILE: {nowhere} cannot be used: No such file or directory" == refusal(
        certificate=good.certificate, key=nowhere
    )
    assert f"INGESTD_MQTT_KEY_FILE: the key in {other.key} is not that of the certificate" == refusal(
        certificate=good.certificate, key=other.key
    )
    for certificate, key in ((nonsense, good.key), (good.certificate, nonsense), (good.certificate, None)):
        assert "INGESTD_MQTT_CERT_FILE" in refusal(certificate=certificate, key=key)


def test_a_certificate_that_is_too_weak_says_so(tmp_path: Path) -> None:
    certificate, key = tmp_path / "weak.crt", tmp_path / "weak.key"
    openssl(
        *("req", "-x509", "-newkey", "rsa:512", "-nodes", "-subj", "/CN=weak", "-days", "2"),
        *("-keyout", key, "-out", certificate),
    )

    reason = refusal(certificate=certificate, key=key)

    assert f"INGESTD_MQTT_CERT_FILE: the certificate in {certificate} is too weak: have one made" in reason


def test_a_bundle_of_authorities_with_a_broken_one_is_not_said_to_hold_none(
    authority: Authority, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.crt"
    good = authority.own.certificate.read_text()
    bundle.write_text(good + good[:200])

    assert "holds no certificate, or a broken one" in refusal(ca=bundle)
