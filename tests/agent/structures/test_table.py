"""The `[[structures]]` tables of a program.toml."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from agent.errors import StructureError
from agent.program import Definition
from agent.structures.finding import Structure
from agent.structures.layout import Array, Excluded, Member, Record, Scalar
from agent.structures.sampled import check_sampled, independent_names, sampled_tables
from agent.structures.table import StructureTable
from transport.messages import EXTENTS_MAX


@pytest.mark.parametrize(
    ("keys", "title"),
    [
        ({"symbol": "g_sessions"}, "g_sessions"),
        ({"symbol": "exchange::Book"}, "book"),
        ({"symbol": "book.c:entries", "exclude": ["book.c:entries.lock"]}, "entries"),
        ({"symbol": "lib_book", "library": "libbook.so", "consistency": "none"}, "lib_book"),
        ({"file": "/dev/shm/app/book"}, "book"),
        ({"python": "exchange.engine:BOOK"}, "book"),
        ({"python": "exchange.engine:BOOK", "name": "orders"}, "orders"),
    ],
)
def test_a_table_names_its_structure(keys: dict[str, Any], title: str) -> None:
    assert StructureTable.model_validate(keys).title == title


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "exactly one of symbol, file and python, not none"),
        ({"symbol": "a", "file": "/b"}, "exactly one of symbol, file and python, not symbol and file"),
        ({"file": "dev/shm/book"}, "file must be an absolute path"),
        ({"python": "exchange.engine"}, '"exchange.engine" is no path of a Python object'),
        ({"file": "/b", "exclude": ["b.c"]}, "exclude means nothing to a structure with file"),
        ({"python": "a:B", "library": "x"}, "library means nothing to a structure with python"),
        ({"python": "a:B", "consistency": "none"}, "consistency means nothing to a structure with python"),
        ({"symbol": "exchange::(anonymous namespace)::a b"}, '"a b" can\'t be the name of a structure'),
        ({"symbol": "a", "name": "A"}, "name"),
        ({"symbol": "a", "interval_ms": 1}, "interval_ms"),
        ({"symbol": "a", "consistency": "some"}, "consistency"),
        ({"symbol": "a", "colour": "red"}, "colour"),
    ],
)
def test_a_wrong_table_is_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as found:
        StructureTable.model_validate(keys)
    assert said in str(found.value)


def test_a_structure_over_its_limit_is_refused() -> None:
    table = StructureTable(symbol="g_table", size_mib_max=64)
    table.check_size(64 << 20)
    with pytest.raises(StructureError) as found:
        table.check_size((64 << 20) + 1)
    assert found.value.what == "g_table has 64.0 MiB, more than size_mib_max = 64"
    assert found.value.hint == "if it is the right one, set size_mib_max = 65"


def test_a_whole_process_has_what_can_be_looked_at() -> None:
    smallest: dict[str, Any] = {"program": {"id": "a", "command": ["/bin/true"]}}
    assert Definition.model_validate(smallest).structures == ()
    shown = [{"symbol": "g_sessions", "exclude": ["g_sessions.lock"]}, {"file": "/dev/shm/book"}]
    assert len(Definition.model_validate({**smallest, "structures": shown}).structures) == 2
    with pytest.raises(ValidationError, match="python of structure book needs mode"):
        Definition.model_validate({**smallest, "structures": [{"python": "engine:BOOK"}]})


def test_what_is_read_between_checkpoints_is_told_apart_from_the_rest() -> None:
    tables = [
        {"symbol": "g_counts", "interval_ms": 10, "independent": True},
        {"symbol": "g_queue", "interval_ms": 10, "consistency": "none"},
        {"symbol": "g_rest"},
    ]
    smallest: dict[str, Any] = {"program": {"id": "a", "command": ["/bin/true"]}}
    whole = Definition.model_validate({**smallest, "structures": tables})
    assert [table.title for table in sampled_tables(whole)] == ["g_counts", "g_queue"]
    assert independent_names(whole) == {"g_counts"}
    warm = {**smallest, "mirror": {"mode": "structures"}, "structures": [{"symbol": "g_counts", "interval_ms": 10}]}
    assert sampled_tables(Definition.model_validate(warm)) == ()


def test_a_structure_of_many_pieces_is_refused() -> None:
    scalar = Scalar("unsigned", 8)
    record = Record(16, (Member("lock", 0, Excluded(8)), Member("id", 8, scalar)))
    table = StructureTable(symbol="g_table", interval_ms=10)
    check_sampled(table, Structure("g_table", Array(record, EXTENTS_MAX)))
    with pytest.raises(StructureError, match="g_table is 32769 pieces between what is excluded; at most 32768"):
        check_sampled(table, Structure("g_table", Array(record, EXTENTS_MAX + 1)))
