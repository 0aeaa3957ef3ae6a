"""`address`: the program's address is on the node that serves, and nobody else looks after it."""

from __future__ import annotations

from cluster.redirect.driver import Carrier, RedirectError, Tokens
from transport.errors import KagemushaError


class AddressDriver:
    """See `driver.Driver`."""

    def __init__(self, program: str, carrier: Carrier) -> None:
        self._tokens = Tokens(program)
        self._program = program
        self._carrier = carrier

    async def claim(self, token: int) -> None:
        """See `driver.Driver`."""
        self._tokens.accept(token)
        ensure_carried(self._program, self._carrier)

    async def release(self, token: int) -> None:
        """See `driver.Driver`."""
        self._tokens.accept(token)
        self._carrier.drop()

    async def holds(self) -> bool:
        """See `driver.Driver`."""
        return self._carrier.has()

    async def close(self) -> None:
        """The address stays where it is."""
        self._carrier.close()


def ensure_carried(program: str, carrier: Carrier) -> None:
    """Have the address here. Raises RedirectError."""
    try:
        if not carrier.has():
            carrier.put()
        if not carrier.has():
            raise RedirectError(f"{program}: its address is not on this node, though it was put there")
    except RedirectError:
        raise
    except KagemushaError as error:
        raise RedirectError(f"{program}: its address is not put on this node: {error.what}", hint=error.hint) from error
