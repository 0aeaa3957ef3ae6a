"""The stream's messages: golden bytes of each, as docs/wire-protocol.md has them."""

from __future__ import annotations

import pytest

from transport.checkpoint import NOTHING, Header, Version
from transport.errors import FrameError
from transport.messages import (
    STREAM,
    Ack,
    Announce,
    Begin,
    Bye,
    End,
    Pages,
    Place,
    RecordsMessage,
    Refuse,
    Sample,
    SampleHeld,
    StreamMessage,
    Subscribe,
)

VERSION = Version(7, 42, 0x0123456789ABCDEF)
VERSION_HEX = "83a5746f6b656e07a66e756d6265722aa6646967657374cf0123456789abcdef"
NOTHING_HEX = "83a5746f6b656e00a66e756d62657200a664696765737400"
HEADER = Header("redis", VERSION, NOTHING, 1_700_000_000_000_000_000, 3, 1, False, "full")
HEADER_HEX = (
    "88a770726f6772616da57265646973a776657273696f6e"
    + VERSION_HEX
    + "a462617365"
    + NOTHING_HEX
    + "ab63617074757265645f6e73"
    "cf17979cfe362a0000a5706167657303a5706172747301a566696e616cc2a46b696e64a466756c6c"
)

GOLDEN: list[tuple[int, StreamMessage, str]] = [
    (
        1,
        Subscribe("redis", "redis@b", 3, VERSION),
        "84a770726f6772616da57265646973a8696e7374616e6365a772656469734062ab696e6361726e6174696f6e03a5686f6c6473"
        + VERSION_HEX,
    ),
    (2, Begin(HEADER), "81a6686561646572" + HEADER_HEX),
    (3, Pages(b"part"), "70617274"),
    (4, RecordsMessage(b"part"), "70617274"),
    (5, End(HEADER, 1, 99), "83a6686561646572" + HEADER_HEX + "a77265636f72647301a373756d63"),
    (6, Ack(VERSION), "81a776657273696f6e" + VERSION_HEX),
    (7, Refuse(NOTHING, "no"), "82a5686f6c6473" + NOTHING_HEX + "a6726561736f6ea26e6f"),
    (
        8,
        Announce((("10.0.0.1", 6379, "10.0.0.2", 40000),), ()),
        "82a66f70656e65649194a831302e302e302e31cd18eba831302e302e302e32cd9c40a6636c6f73656490",
    ),
    (9, Bye("end"), "81a6726561736f6ea3656e64"),
    (
        10,
        Place("g_x", 4096, 8, ((0, 4),)),
        "84a9737472756374757265a3675f78a761646472657373cd1000a473697a6508a7657874656e747391920004",
    ),
    (
        11,
        Sample("g_x", VERSION, 3, 1, 1, b"b", 2, b"s", b"t", b"data"),
        "8aa9737472756374757265a3675f78a7666f6c6c6f7773"
        + VERSION_HEX
        + "a66e756d62657203ab63617074757265645f6e7301ac626173655f76657273696f6e01a462617365c40162a776657273696f6e02"
        "a57374617465c40173a373756dc40174a464617461c40464617461",
    ),
    (12, SampleHeld("g_x", 3, True), "83a9737472756374757265a3675f78a66e756d62657203a466697473c3"),
]


@pytest.mark.parametrize(("kind", "message", "body"), GOLDEN)
def test_golden_messages(kind: int, message: StreamMessage, body: str) -> None:
    assert STREAM.encode(message) == (kind, bytes.fromhex(body))
    assert STREAM.decode(kind, bytes.fromhex(body)) == message


def test_every_message_has_golden_bytes() -> None:
    assert set(STREAM.limits) == {kind for kind, _, _ in GOLDEN}


def test_a_checkpoint_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(FrameError, match=r"Begin\.header\.kind"):
        STREAM.decode(2, bytes.fromhex("81a6686561646572" + HEADER_HEX.replace("a466756c6c", "a468616c66")))
