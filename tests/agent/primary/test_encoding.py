"""Two mirrors that get everything at the same time get the same chunks, each made once, and each its own pages."""

from __future__ import annotations

from agent.memory.image import Image
from agent.primary.encoding import CHUNK_PAGES, Encoder, FullTransfer
from tests.agent.joined import PAGES_MAX, PROGRAM, Program
from transport.delta import PagePartDecoder
from transport.messages import Pages

COUNT = 3 * CHUNK_PAGES


def sent(transfer: FullTransfer) -> bytes:
    """The next chunk."""
    message = transfer.next_chunk()
    assert isinstance(message, Pages)
    return message.part


def test_chunks_are_made_once_for_all_who_get_the_same() -> None:
    program, encoder = Program(), Encoder(PROGRAM, 1, Image(PAGES_MAX * 4096), "zstd")
    for page in range(COUNT):
        program.write(page, page + 1)
    encoder.delta(program, program.records, captured_ns=1, final=False)
    one, other = encoder.full(1), encoder.full(1)
    for _ in range(COUNT // CHUNK_PAGES):
        assert sent(one) is sent(other)
    assert one.next_chunk() is None

    # What changed meanwhile is read anew, and who knows of other pages gets those.
    before, late = encoder.full(1), encoder.full(1)
    first = sent(before)
    program.write(0, 7)
    encoder.delta(program, program.records, captured_ns=2, final=False)
    again = sent(late)
    assert again is not first
    encoder.image.forget(1, 2, encoder.version.number)
    fewer = encoder.full(2)
    pages = PagePartDecoder().decode(sent(fewer)).pages.tolist()
    assert pages == [0, *range(2, CHUNK_PAGES + 1)]

    encoder.forget_chunks()
    assert sent(encoder.full(2)) is not again
