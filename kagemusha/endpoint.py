"""HOST:PORT as a person writes it."""

from __future__ import annotations

import ipaddress

from transport.errors import ConfigError


def parse_endpoint(text: str) -> tuple[str, int]:
    """("10.0.0.1", 7000) from "10.0.0.1:7000", ("fd00::1", 7000) from "[fd00::1]:7000".

    Raises ConfigError unless it is an IP address and a port from 1 to 65535.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if bracketed else host)
        if not colon or bracketed != (address.version == 6) or not port.isascii() or not 0 < int(port) < 65536:
            raise ValueError
    except ValueError as error:
        raise ConfigError(
            f'"{text}" is not an address and a port', hint="write 10.0.0.1:7000, or [fd00::1]:7000 for IPv6"
        ) from error
    return str(address), int(port)
