"""The role `monitoring`, run for real on this machine, with directories of its own: what it changes, and what not.

A mount namespace has an /etc of its own for the nodes' part. Prometheus is not installed; its settings are as Debian's.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import yaml

from tests.deploy.ansible import COMMANDS, DIRECTORY
from tests.monitoring.files import ROOT, alerts

PLAYBOOK: Final = DIRECTORY / "ansible_collections/kagemusha/cluster/playbooks/monitoring.yml"
PROMTOOL: Final = ROOT / ".venv/prometheus/usr/bin/promtool"
SETTINGS: Final = """global:
  scrape_interval: 15s
rule_files:
  # - "first_rules.yml"

scrape_configs:
  - job_name: prometheus
    static_configs:
      - targets: ['localhost:9090']
"""
_RECAP: Final = re.compile(r"^watch\s+: ok=\d+\s+changed=(\d+)\s+unreachable=0\s+failed=(\d+)", re.MULTILINE)
_NAMESPACE: Final = """
mount -t tmpfs -o mode=0755 none "$1/layers" && mkdir "$1/layers/upper" "$1/layers/work"
mount -t overlay -o "lowerdir=/etc,upperdir=$1/layers/upper,workdir=$1/layers/work" none /etc && mkdir -p /etc/kagemusha
shift; status=0; for check in "$@"; do $PLAY $check || status=$?; done; ls -l /etc/kagemusha; exit $status
"""


def wrong_with_the_role() -> list[str]:
    """A dry run, a run, a second run, a dry run again: what is not as it should be."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for part in ("prometheus", "grafana", "authority", "layers"):
            (place / part).mkdir()
        (place / "prometheus/prometheus.yml").write_text(SETTINGS)
        kagemusha = [str(ROOT / ".venv/bin/python"), "-m", "kagemusha"]
        subprocess.run([*kagemusha, "pki", "init", str(place / "authority")], cwd=ROOT, check=True, capture_output=True)
        (place / "inventory.yml").write_text(yaml.safe_dump(_inventory(place, kagemusha)))
        said = _play(place, ("--check", "--diff", "--diff", "--check"))
        recaps = [(int(changed), int(failed)) for changed, failed in _RECAP.findall(said)]
        if len(recaps) != 4 or any(failed for _, failed in recaps):
            return [f"the playbook fails: {said[-3000:]}"]
        dry, first, second, again = (changed for changed, _ in recaps)
        wrong = [] if dry and first and second == again == 0 else [f"changed: {dry}, {first}, {second}, {again}"]
        if not re.search(r"^-rw-------.* tokens\.toml$", said, re.MULTILINE):
            wrong.append("the nodes were not given the hash")
        return [*wrong, *_wrong_with_the_files(place)]


def _wrong_with_the_files(place: Path) -> list[str]:
    checked = subprocess.run(
        [str(PROMTOOL), "check", "config", str(place / "prometheus/prometheus.yml")], capture_output=True, text=True
    )
    wrong = [checked.stdout + checked.stderr] if checked.returncode else []
    settings = yaml.safe_load((place / "prometheus/prometheus.yml").read_text())
    if [one["job_name"] for one in settings["scrape_configs"]] != [
        "kagemusha-test-a",
        "kagemusha-test-b",
        "prometheus",
    ]:
        wrong.append(f"who is asked: {settings['scrape_configs']}")
    rules = (place / "prometheus/kagemusha-alerts.yml").read_text()
    if rules.count("runbook_url: https://") != len(alerts()):
        wrong.append("alerts do not lead to their runbooks")
    token = place / "prometheus/kagemusha.token"
    if token.stat().st_mode & 0o007 or not token.read_text().startswith("kgm_"):
        wrong.append("the token is none, or anybody may read it")
    if not (place / "grafana/kagemusha.json").exists():
        wrong.append("there is no dashboard")
    return wrong


def _inventory(place: Path, kagemusha: Sequence[str]) -> dict[str, object]:
    here = {"ansible_connection": "local"}
    nodes = {name: {"ansible_host": f"10.0.0.{number}", **here} for number, name in enumerate("ab", 1)}
    variables = {
        "ansible_python_interpreter": "/usr/bin/python3",
        "kagemusha_cluster": "test",
        "kagemusha_authority": str(place / "authority"),
        "kagemusha_command": " ".join(kagemusha),
        "kagemusha_prometheus_directory": str(place / "prometheus"),
        "kagemusha_prometheus_group": "root",
        "kagemusha_prometheus_service": "",
        "kagemusha_promtool": str(PROMTOOL),
        "kagemusha_grafana_dashboards": str(place / "grafana"),
    }
    return {"kagemusha": {"hosts": nodes}, "monitoring": {"hosts": {"watch": here}}, "all": {"vars": variables}}


def _play(place: Path, runs: Sequence[str]) -> str:
    environment = {
        **os.environ,
        "PLAY": f"{COMMANDS / 'ansible-playbook'} -i {place / 'inventory.yml'} {PLAYBOOK}",
        "ANSIBLE_COLLECTIONS_PATH": str(DIRECTORY),
        "ANSIBLE_HOME": str(place / "home"),
        "ANSIBLE_NOCOLOR": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = ["unshare", "--mount", "sh", "-c", _NAMESPACE, "sh", str(place), *runs]
    done = subprocess.run(command, env=environment, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return done.stdout + done.stderr
