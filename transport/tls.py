"""Mutual TLS 1.3 (RFC 8446) between nodes: both sides show a certificate of the cluster's authority.

Which node the other side is stands in its certificate's only DNS name, never in what it says.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from transport.errors import ConfigError, PeerRefused
from transport.pki import AUTHORITY_CERTIFICATE, NODE_CERTIFICATE, NODE_KEY, Identity

_SAME_AUTHORITY: Final = "both nodes need certificates of the same cluster's authority"


class Tls:
    """This node's side of every link. node: its id, out of its certificate.

    server, client: what the next handshake, as either side, goes by; links that are open are not touched by a `reload`.
    """

    def __init__(
        self, node: str, server: ssl.SSLContext, client: ssl.SSLContext, directory: Path | None = None
    ) -> None:
        self.node = node
        self.server = server
        self.client = client
        self._directory = directory

    @staticmethod
    def load(directory: Path) -> Tls:
        """Read the identity that `pki.Identity.save` wrote to `directory`. Raises ConfigError."""
        return Tls(*_read(directory), directory)

    def reload(self) -> None:
        """Read it again, whole or not at all: certificates are renewed without a restart.

        Raises ConfigError, also when it is another node's: then everything is as before.
        """
        if self._directory is None:
            raise ConfigError(f"the certificate of node {self.node} was not read from a directory")
        node, server, client = _read(self._directory)
        if node != self.node:
            what = f"{self._directory / NODE_CERTIFICATE}: is the certificate of node {node}, not of {self.node}"
            raise ConfigError(what, hint="put this node's own there")
        self.server, self.client = server, client


def _read(directory: Path) -> tuple[str, ssl.SSLContext, ssl.SSLContext]:
    identity = Identity.load(directory)
    try:
        server = _context(ssl.PROTOCOL_TLS_SERVER, directory)
        client = _context(ssl.PROTOCOL_TLS_CLIENT, directory)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{directory}: OpenSSL does not accept the node's certificate: {error}") from None
    return identity.node, server, client


def _context(protocol: int, directory: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # `peer_node` and its caller compare names, with an error that says which
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(directory / AUTHORITY_CERTIFICATE)
    context.load_cert_chain(directory / NODE_CERTIFICATE, directory / NODE_KEY)
    return context


def peer_node(certificate: Mapping[str, Any] | None, where: str) -> str:
    """Return the node id in the peer's verified certificate (as `SSLSocket.getpeercert` gives it).

    Raises PeerRefused when it has not exactly one DNS name.
    """
    names = [value for kind, value in (certificate or {}).get("subjectAltName", ()) if kind == "DNS"]
    if len(names) != 1:
        raise PeerRefused(f"{where}: its certificate names no single node")
    return str(names[0])


def refusal(error: BaseException, where: str) -> PeerRefused:
    """Return the one line that says why a handshake failed: whose certificate, and what is wrong with it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return PeerRefused(f"{where}: its certificate is not accepted: {error.verify_message}", hint=_SAME_AUTHORITY)
    if isinstance(error, ConnectionError):
        return PeerRefused(f"{where}: ended the connection in the handshake", hint=_SAME_AUTHORITY)
    reason = str(getattr(error, "reason", None) or error) or type(error).__name__
    if "CERTIFICATE_REQUIRED" in reason or "PEER_DID_NOT_RETURN_A_CERTIFICATE" in reason:
        who = "shows no certificate" if "PEER_DID" in reason else "wants a certificate, and we showed none"
        return PeerRefused(f"{where}: {who}", hint="every node needs a certificate of the cluster's authority")
    if "ALERT" in reason and ("CA" in reason or "CERTIFICATE" in reason or "DECRYPT" in reason):
        return PeerRefused(
            f"{where}: does not accept our certificate: {reason.lower().replace('_', ' ')}",
            hint=_SAME_AUTHORITY,
        )
    return PeerRefused(f"{where}: no TLS 1.3 connection: {reason.lower().replace('_', ' ')}")
