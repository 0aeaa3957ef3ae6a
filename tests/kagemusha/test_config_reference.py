"""The reference of program.toml says what the code does."""

from __future__ import annotations

import tomllib
from pathlib import Path

from agent.program import Definition
from kagemusha.config_reference import reference_markdown

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_committed_reference_is_up_to_date() -> None:
    """If not: `.venv/bin/python -m kagemusha config reference > docs/program-toml.md`."""
    assert (ROOT / "docs" / "program-toml.md").read_text(encoding="utf-8") == reference_markdown()


def test_every_key_is_described() -> None:
    rows = [line for line in reference_markdown().splitlines() if line.startswith("| `")]
    assert len(rows) > 30
    assert all(cell.strip() for row in rows for cell in row.strip("|").split(" | "))


def test_its_example_can_be_used() -> None:
    example = reference_markdown().split("```toml\n")[1].split("```")[0]
    assert Definition.model_validate(tomllib.loads(example)).program.id == "redis"
