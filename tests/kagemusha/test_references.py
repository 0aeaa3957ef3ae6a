"""The documents that are written from the code say what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.admin.problem import SORTS
from cluster.admin.routes import ENDPOINTS
from kagemusha import api_reference, cli_reference
from kagemusha.command_line import app, run

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize(("name", "document"), [("api", "api.md"), ("commands", "cli.md"), ("metrics", "metrics.md")])
def test_the_committed_document_is_up_to_date(name: str, document: str, capsys: pytest.CaptureFixture[str]) -> None:
    """If not: `.venv/bin/python -m kagemusha reference NAME > docs/DOCUMENT`."""
    assert run(["reference", name]) == 0
    assert (ROOT / "docs" / document).read_text(encoding="utf-8") == capsys.readouterr().out


def test_every_endpoint_and_problem_is_described() -> None:
    text = api_reference.reference_markdown()
    assert all(f"### `{one.method} {one.path}`" in text for one in ENDPOINTS)
    assert all(f"| `{sort.word}` | {sort.status} |" in text for sort in SORTS)


def test_every_option_is_described() -> None:
    text = cli_reference.reference_markdown(app)
    rows = [line for line in text.splitlines() if line.startswith(("| `-", "| `A", "| `P", "| `I"))]
    assert len(rows) > 40
    assert all(row.strip("|").split(" | ")[1].strip() for row in rows)
    assert "## kagemusha switchover" in text
    assert "watchdog" not in text
