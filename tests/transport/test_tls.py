"""What a certificate says of its node, and the one line for each way in which a handshake fails."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from transport.errors import ConfigError, PeerRefused
from transport.pki import NODE_KEY, Authority
from transport.tls import Tls, peer_node, refusal


def test_an_identity_is_loaded_for_tls_1_3_alone(tmp_path: Path) -> None:
    Authority.create("test").issue("a").save(tmp_path)
    tls = Tls.load(tmp_path)
    assert tls.node == "a"
    for context in (tls.server, tls.client):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_3
        assert context.verify_mode == ssl.CERT_REQUIRED


def test_a_defect_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        Tls.load(tmp_path)
    Authority.create("test").issue("a").save(tmp_path)
    (tmp_path / NODE_KEY).write_text("")
    with pytest.raises(ConfigError, match="no private key"):
        Tls.load(tmp_path)


def test_a_peer_has_exactly_one_name() -> None:
    assert peer_node({"subjectAltName": (("DNS", "a"), ("IP Address", "10.0.0.1"))}, "x") == "a"
    for certificate in (
        None,
        {},
        {"subjectAltName": (("DNS", "a"), ("DNS", "b"))},
        {"subjectAltName": (("URI", "a"),)},
    ):
        with pytest.raises(PeerRefused, match="names no single node"):
            peer_node(certificate, "x")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConnectionResetError(), "ended the connection in the handshake"),
        (ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca"), "does not accept our certificate"),
        (ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] x"), "wants a certificate"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] x"), r"no TLS 1\.3 connection"),
    ],
)
def test_every_failure_is_one_line_that_names_the_place(error: Exception, line: str) -> None:
    refused = refusal(error, "10.0.0.1:7000")
    assert refused.what.startswith("10.0.0.1:7000: ")
    assert "\n" not in refused.what
    with pytest.raises(PeerRefused, match=line):
        raise refused
