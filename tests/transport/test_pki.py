"""The cluster's authority and its nodes' certificates."""

from __future__ import annotations

import datetime
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from transport.errors import ConfigError
from transport.pki import AUTHORITY_DAYS, AUTHORITY_KEY, NODE_CERTIFICATE, NODE_KEY, Authority, Identity, expiry


def test_an_identity_comes_back_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    identity = Authority.create("test").issue("node-a")
    identity.save(tmp_path / "node")
    assert Identity.load(tmp_path / "node") == identity
    for path in (tmp_path / "node").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(path.name for path in (tmp_path / "node").iterdir()) == ["authority.pem", "node.key", "node.pem"]


def test_a_certificate_names_its_node_and_serves_both_sides() -> None:
    certificate = x509.load_pem_x509_certificate(Authority.create("test").issue("node-a").certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["node-a"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {purpose._name for purpose in usage} == {"serverAuth", "clientAuth"}
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_an_authority_comes_back_and_is_never_replaced(tmp_path: Path) -> None:
    Authority.create("test").save(tmp_path)
    assert stat.S_IMODE((tmp_path / AUTHORITY_KEY).stat().st_mode) == 0o600
    Authority.load(tmp_path).issue("node-b").save(tmp_path / "b")
    assert Identity.load(tmp_path / "b").node == "node-b"
    with pytest.raises(ConfigError, match="exists") as error:
        Authority.create("other").save(tmp_path)
    assert error.value.hint


@pytest.mark.parametrize("node", ["", "-a", "a-", "A", "a.b", "a" * 64, "a\n", "ä"])
def test_what_is_no_node_id_gets_no_certificate(node: str) -> None:
    with pytest.raises(ConfigError, match="no node id"):
        Authority.create("test").issue(node)


def test_every_defect_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    authority = Authority.create("test")

    def broken(name: str, content: bytes | None) -> str:
        authority.issue("a").save(tmp_path)
        if content is None:
            (tmp_path / name).unlink()
        else:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError) as error:
            Identity.load(tmp_path)
        assert str(tmp_path / name) in error.value.what or name == NODE_KEY
        assert "\n" not in error.value.what
        return error.value.what

    assert "No such file" in broken(NODE_CERTIFICATE, None)
    assert "no certificate in PEM" in broken(NODE_CERTIFICATE, b"junk")
    assert "no private key" in broken(NODE_KEY, b"junk")
    assert "another key" in broken(NODE_KEY, authority.issue("b").key)
    other = Authority.create("other").issue("a")
    authority.issue("a").save(tmp_path)
    (tmp_path / NODE_CERTIFICATE).write_bytes(other.certificate)
    (tmp_path / NODE_KEY).write_bytes(other.key)
    with pytest.raises(ConfigError, match=r"was not issued by authority\.pem"):
        Identity.load(tmp_path)
    authority.issue("a", days=0).save(tmp_path)
    with pytest.raises(ConfigError, match="expired on"):
        Identity.load(tmp_path)


def test_a_directory_that_can_t_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file.*: "):
        Authority.create("test").issue("a").save(tmp_path / "file" / "under")


def test_an_authority_is_replaced_while_both_are_trusted(tmp_path: Path) -> None:
    Authority.create("test").save(tmp_path)
    old_node = Authority.load(tmp_path).issue("a")
    successor = Authority.load(tmp_path).renew(tmp_path)
    assert successor.is_being_replaced
    assert stat.S_IMODE((tmp_path / AUTHORITY_KEY).stat().st_mode) == 0o600
    new_node = Authority.load(tmp_path).issue("b")
    new_node.save(tmp_path / "b")
    # The old certificate is good beside the new list of authorities, the new one is not beside the old list.
    replace(old_node, authority=new_node.authority).save(tmp_path / "a")
    assert {Identity.load(tmp_path / name).node for name in ("a", "b")} == {"a", "b"}
    replace(new_node, authority=old_node.authority).save(tmp_path / "late")
    with pytest.raises(ConfigError, match="was not issued"):
        Identity.load(tmp_path / "late")


def test_a_third_authority_waits_until_the_first_is_retired(tmp_path: Path) -> None:
    Authority.create("test").save(tmp_path)
    Authority.load(tmp_path).issue("a").save(tmp_path / "a")
    Authority.load(tmp_path).renew(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(ConfigError, match="still trusted"):
        Authority.load(tmp_path).renew(tmp_path)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    alone = Authority.load(tmp_path).retire(tmp_path)
    assert not alone.is_being_replaced
    (tmp_path / "a" / "authority.pem").write_bytes((tmp_path / "authority.pem").read_bytes())
    with pytest.raises(ConfigError, match="was not issued"):
        Identity.load(tmp_path / "a")
    Authority.load(tmp_path).renew(tmp_path)


def _interrupt_renewal(directory: Path) -> None:
    """An authority, which has issued a certificate, is renewed but for its key."""
    Authority.create("test").save(directory)
    old_key = (directory / AUTHORITY_KEY).read_bytes()
    Authority.load(directory).issue("a").save(directory / "a")
    Authority.load(directory).renew(directory)
    (directory / AUTHORITY_KEY).write_bytes(old_key)


def test_a_renewal_that_was_interrupted_leaves_an_authority_that_can_be_used(tmp_path: Path) -> None:
    _interrupt_renewal(tmp_path)
    Authority.load(tmp_path).issue("b").save(tmp_path / "b")
    Authority.load(tmp_path).retire(tmp_path)
    (tmp_path / "b" / "authority.pem").write_bytes((tmp_path / "authority.pem").read_bytes())
    assert Identity.load(tmp_path / "b").node == "b"


def test_a_renewal_that_was_interrupted_is_not_taken_for_one_that_was_done(tmp_path: Path) -> None:
    _interrupt_renewal(tmp_path)
    # What it issues meanwhile trusts whom its own file says.
    Authority.load(tmp_path).issue("b").save(tmp_path / "b")
    assert (tmp_path / "b/authority.pem").read_bytes() == (tmp_path / "authority.pem").read_bytes()
    Authority.load(tmp_path).renew(tmp_path)
    Authority.load(tmp_path).issue("b").save(tmp_path / "b")
    Authority.load(tmp_path).retire(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name / "authority.pem").write_bytes((tmp_path / "authority.pem").read_bytes())
    assert Identity.load(tmp_path / "b").node == "b"
    with pytest.raises(ConfigError, match="was not issued"):
        Identity.load(tmp_path / "a")


def test_a_certificate_is_valid_no_longer_than_its_authority(tmp_path: Path) -> None:
    authority = Authority.create("test")
    authority.issue("a", days=10).save(tmp_path / "short")
    authority.issue("a", days=100_000).save(tmp_path / "long")
    now = datetime.datetime.now(datetime.UTC)
    assert (expiry(tmp_path / "short") - now).days == 9
    assert (expiry(tmp_path / "long") - now).days == AUTHORITY_DAYS - 1
