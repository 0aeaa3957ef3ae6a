"""What `make dist` takes from the lock, without fetching any of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCK = (
    "aiohttp==1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n    # via kagemusha (pyproject.toml)\n"
    "Py_YAML==2.0 \\\n    --hash=sha256:cc\n    # via x\n\n# The following packages are unsafe:\nsetuptools==3 \\\n"
    "    --hash=sha256:dd\n"
)


@pytest.fixture(scope="module")
def dist() -> ModuleType:
    """deploy/make_dist.py."""
    spec = importlib.util.spec_from_file_location("make_dist", ROOT / "deploy/make_dist.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_a_part_of_a_lock_keeps_versions_and_hashes(dist: ModuleType) -> None:
    part = dist.locked(["aiohttp", "py-yaml"], LOCK)
    assert part == (
        "aiohttp==1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\nPy_YAML==2.0 \\\n    --hash=sha256:cc\n"
    )


def test_what_the_lock_does_not_have_is_refused_by_name(dist: ModuleType) -> None:
    with pytest.raises(SystemExit, match="numpy: not in requirements"):
        dist.locked(["numpy"], LOCK)


def test_nodes_get_what_runs_and_nothing_of_the_tests(dist: ModuleType) -> None:
    needed = dist.needed_at_run_time()
    assert {"aiohttp", "numpy", "pysyncobj", "yarl", "cffi"} <= set(needed)
    assert not {"pytest", "mypy", "ruff", "hypothesis", "setuptools", "kagemusha"} & set(needed)
    dist.locked(needed, (ROOT / "requirements.lock").read_text())


def test_a_wheel_is_locked_by_what_it_is(dist: ModuleType, tmp_path: Path) -> None:
    wheel = tmp_path / "annotated_doc-0.0.7-py3-none-any.whl"
    wheel.write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert dist.lock_line(wheel) == f"annotated-doc==0.0.7 --hash=sha256:{empty}\n"
