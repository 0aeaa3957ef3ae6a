"""The cluster's own certificate authority, and the certificates of its nodes (X.509 v3, RFC 5280; ECDSA P-256).

A node's certificate names the node as its only DNS name and serves both sides of a connection. Private keys are written
for their owner alone (0600).

`authority.pem` has one certificate, or, while an authority is replaced, two: the new one first, which issues, and the
one before it, whose nodes are trusted until it is `retired`.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from transport.errors import ConfigError

AUTHORITY_CERTIFICATE: Final = "authority.pem"
AUTHORITY_KEY: Final = "authority.key"
NODE_CERTIFICATE: Final = "node.pem"
NODE_KEY: Final = "node.key"
NODE_ID: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

AUTHORITY_DAYS: Final = 7300
NODE_DAYS: Final = 3650
_CLOCKS_APART: Final = datetime.timedelta(days=1)
"""A node's clock may be behind the one that issued its certificate."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a node needs to prove who it is and to know its peers; all in PEM. authority: every one that is trusted."""

    node: str
    certificate: bytes
    key: bytes
    authority: bytes

    def save(self, directory: Path) -> None:
        """Write `node.pem`, `node.key` and `authority.pem`; replaces older ones. Raises ConfigError."""
        _write(
            directory, {NODE_KEY: self.key, NODE_CERTIFICATE: self.certificate, AUTHORITY_CERTIFICATE: self.authority}
        )

    @staticmethod
    def load(directory: Path) -> Identity:
        """Read what `save` wrote. Raises ConfigError, naming the file and what is wrong with it."""
        certificate = _certificate(directory / NODE_CERTIFICATE)
        authorities = _certificates(directory / AUTHORITY_CERTIFICATE)
        key = _key(directory / NODE_KEY)
        where = directory / NODE_CERTIFICATE
        if key.public_key() != certificate.public_key():
            raise ConfigError(f"{where}: belongs to another key than {NODE_KEY}", hint=_ISSUE)
        if not any(_issued(certificate, authority) for authority in authorities):
            raise ConfigError(f"{where}: was not issued by {AUTHORITY_CERTIFICATE}", hint=_ISSUE)
        if certificate.not_valid_after_utc < datetime.datetime.now(datetime.UTC):
            raise ConfigError(f"{where}: expired on {certificate.not_valid_after_utc:%Y-%m-%d}", hint=_ISSUE)
        return Identity(_node_of(certificate, where), _pem(certificate), _key_pem(key), _bundle(authorities))


def expiry(directory: Path) -> datetime.datetime:
    """Until when the certificates of a node's directory are valid, its own and those that it trusts. Raises
    ConfigError."""
    own, trusted = _certificate(directory / NODE_CERTIFICATE), _certificates(directory / AUTHORITY_CERTIFICATE)
    issuers = [one for one in trusted if _issued(own, one)]
    return min(one.not_valid_after_utc for one in (own, *issuers))


_ISSUE: Final = "issue the node's certificate again from the cluster's authority"


class Authority:
    """The cluster's certificate authority: who has its key decides which nodes belong to the cluster.

    before: the one that it replaces, while nodes have certificates of that one. unborn: a successor whose key was never
    written, because `renew` was interrupted; it is trusted and has issued nothing.
    """

    def __init__(
        self,
        certificate: x509.Certificate,
        key: ec.EllipticCurvePrivateKey,
        before: tuple[x509.Certificate, ...] = (),
        unborn: tuple[x509.Certificate, ...] = (),
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._before = before
        self._unborn = unborn

    @property
    def is_being_replaced(self) -> bool:
        """Whether certificates of another authority, the one before this, are trusted as well."""
        return bool(self._before)

    @staticmethod
    def create(cluster: str) -> Authority:
        """Make a new authority for the cluster of this name."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"kagemusha {cluster}"[:64])])
        builder = (
            _builder(name, name, key.public_key(), AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        )
        return Authority(builder.sign(key, hashes.SHA256()), key)

    @staticmethod
    def load(directory: Path) -> Authority:
        """Read what `save` wrote. Raises ConfigError."""
        path, key = directory / AUTHORITY_CERTIFICATE, _key(directory / AUTHORITY_KEY)
        certificates = _certificates(path)
        place = next((at for at, one in enumerate(certificates) if one.public_key() == key.public_key()), None)
        if place is None:
            raise ConfigError(f"{directory / AUTHORITY_KEY}: is the key of another authority")
        return Authority(certificates[place], key, tuple(certificates[place + 1 :]), tuple(certificates[:place]))

    def save(self, directory: Path) -> None:
        """Write `authority.pem` and `authority.key`. Raises ConfigError; never replaces an authority."""
        if (directory / AUTHORITY_KEY).exists():
            hint = "a new authority would lock all its nodes out; kagemusha pki renew replaces one step by step"
            raise ConfigError(f"{directory / AUTHORITY_KEY}: exists", hint=hint)
        self._write(directory)

    def renew(self, directory: Path) -> Authority:
        """Write a successor in this one's place, which issues from now on; both are trusted. Gives the successor.

        Raises ConfigError, and changes nothing, while this one is itself a successor: a third would lock out the nodes
        that have the first one's certificates.
        """
        if self._before:
            hint = "when every node has a new certificate: kagemusha pki retire"
            raise ConfigError(f"{directory}: the authority before this one is still trusted", hint=hint)
        common = self._certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        made = Authority.create(str(common[0].value).removeprefix("kagemusha ") if common else "cluster")
        successor = Authority(made._certificate, made._key, (self._certificate,))
        successor._write(directory)
        return successor

    def retire(self, directory: Path) -> Authority:
        """Write that only this one is trusted: certificates of the one before it are worth nothing any more."""
        alone = Authority(self._certificate, self._key)
        alone._write(directory)
        return alone

    def _write(self, directory: Path) -> None:
        # The certificates first: with the old key they are a whole authority, too, which trusts one more.
        _write(directory, {AUTHORITY_CERTIFICATE: self._trusted()})
        _write(directory, {AUTHORITY_KEY: _key_pem(self._key)})

    def _trusted(self) -> bytes:
        return _bundle((*self._unborn, self._certificate, *self._before))

    def issue(self, node: str, days: int = NODE_DAYS) -> Identity:
        """Make a key and a certificate for `node`. Raises ConfigError when that is no node id ([a-z0-9-], 1 to 63)."""
        if not NODE_ID.fullmatch(node):
            raise ConfigError(f"{node!r} is no node id", hint="1 to 63 of a-z, 0-9 and -; not - at either end")
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node)])
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        issuer = self._key.public_key()
        builder = (
            _builder(name, self._certificate.subject, key.public_key(), days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(node)]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
        )
        return Identity(node, _pem(builder.sign(self._key, hashes.SHA256())), _key_pem(key), self._trusted())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_APART)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _node_of(certificate: x509.Certificate, where: Path) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns = names.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        dns = []
    if len(dns) != 1 or not NODE_ID.fullmatch(dns[0]):
        raise ConfigError(f"{where}: names no single node", hint=_ISSUE)
    return dns[0]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint=_ISSUE) from None


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_read(path))
    except ValueError:
        raise ConfigError(f"{path}: no certificate in PEM", hint=_ISSUE) from None


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError:
        raise ConfigError(f"{path}: no certificate in PEM", hint=_ISSUE) from None


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError):
        raise ConfigError(f"{path}: no private key in PEM without a password", hint=_ISSUE) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{path}: no ECDSA key", hint=_ISSUE)
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _bundle(certificates: Iterable[x509.Certificate]) -> bytes:
    return b"".join(map(_pem, certificates))


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(directory: Path, files: dict[str, bytes]) -> None:
    """Write files that only their owner can read; each appears whole or not at all."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content in files.items():
            fresh = directory / f".{name}.{os.getpid()}"
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                os.fchmod(descriptor, 0o600)
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            fresh.rename(directory / name)
    except OSError as error:
        raise ConfigError(f"{error.filename or directory}: {error.strerror}") from None
