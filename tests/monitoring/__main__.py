"""`make monitoring`: the alert rules by promtool; the dashboard, by a real Prometheus that asks three real nodes.

Prometheus asks the nodes over TLS with a viewer's token. A redis is mirrored, killed and switched over meanwhile. Then
each query of the dashboard is put to Prometheus, and must have data. At last the Ansible role that sets all of it up is
run, twice. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from tests.cluster.operated import DESK, Operated, operated
from tests.cluster.trio import DEADLINE_S, NAMES
from tests.monitoring.files import ALERTS, DIRECTORY, ROOT, TESTS, metrics_in, queries
from tests.monitoring.role import wrong_with_the_role
from transport.log_level import LogLevel

BIN: Final = ROOT / ".venv" / "prometheus" / "usr" / "bin"
PORT: Final = 9090
SCRAPE_S: Final = 1
EMPTY: Final = {
    "kagemusha_sync_done_bytes": "no mirror is built at that moment",
    "kagemusha_refused_total": "a stream in order has none",
    "kagemusha_keepalived_restarts_total": "the program has the driver address",
}
"""Metrics that there may be none of, and why."""
EXPECTED: Final = {"KagemushaTakeover", "KagemushaClockNotSynchronised"}
"""A redis was killed; no clock of a container is kept right by itself."""
OF_A_BUSY_MACHINE: Final = {"KagemushaLeaseAge", "KagemushaLeaseEnded", "KagemushaNodeTrouble"}
"""Three nodes on one machine that has other work are late, and then it is right to say so."""
VARIABLES: Final = {"$cluster": "test", "$program": ".*", "$__rate_interval": "1m", "$datasource": ""}
HEALTH: Final = r"""
[[health]]
kind = "exchange"
port = 6379
send = "PING\r\n"
expect = "+PONG"
interval_ms = 500
timeout_ms = 200
"""
_ASK: Final = """
import json, sys, urllib.parse, urllib.request
found = {}
for name, query in json.load(open(sys.argv[1])).items():
    with urllib.request.urlopen(sys.argv[2] + urllib.parse.urlencode({"query": query})) as answer:
        found[name] = json.load(answer)["data"]["result"]
json.dump(found, sys.stdout)
"""
_FETCH: Final = """
import os, ssl, sys, urllib.request
context = ssl.create_default_context(cafile=os.environ["KAGEMUSHA_AUTHORITY"])
context.check_hostname = False
headers = {"Authorization": "Bearer " + os.environ["KAGEMUSHA_TOKEN"]}
request = urllib.request.Request(sys.argv[1], headers=headers)
sys.stdout.write(urllib.request.urlopen(request, context=context).read().decode())
"""


def main() -> int:
    """The exit status says whether all of it was so."""
    argparse.ArgumentParser(prog="make monitoring", description=__doc__).parse_args()
    if not (BIN / "promtool").exists():
        sys.stderr.write("promtool is missing\nhint: deploy/setup prometheus\n")
        return 1
    promtool("check", "rules", ALERTS.name)
    sys.stdout.write(promtool("test", "rules", TESTS.name))
    found = asyncio.run(_with_a_cluster())
    found["wrong"] += wrong_with_the_role()
    sys.stdout.write(json.dumps(found) + "\n")
    return 1 if found["wrong"] else 0


def promtool(*words: str, given: str = "") -> str:
    """Run it in the directory of the rules; gives its output. Ends this process where it complains."""
    done = subprocess.run([str(BIN / "promtool"), *words], cwd=DIRECTORY, input=given, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"promtool {' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


async def _with_a_cluster() -> dict[str, Any]:
    async with operated() as cluster:
        for node in cluster.machines.nodes.values():
            with (node.own / "program.toml").open("a") as file:
                file.write(HEALTH)
        prometheus = _start(cluster)
        try:
            await _live(cluster)
            return await _judge(cluster)
        finally:
            prometheus.terminate()
            prometheus.wait(DEADLINE_S)


async def _live(cluster: Operated) -> None:
    """What a cluster goes through: a start, a kill, a switchover."""
    code, _, complaint = await cluster.type("create", "redis", cluster.program)
    assert code == 0, complaint
    await cluster.mirrored()
    await asyncio.sleep(3 * SCRAPE_S)
    pid = (await cluster.found("status", "redis@a"))["pid"]
    os.kill(pid, 9)
    await asyncio.sleep(1)
    program = await cluster.mirrored()
    other = next(name for name in NAMES if name != program["primary"])
    code, _, complaint = await cluster.type("switchover", f"redis@{other}")
    assert code == 0, complaint
    await cluster.mirrored()
    # From one node every node is told, and all that it takes is written down there.
    code, _, complaint = await cluster.type("log-level", "--all", "warning", "--for", "1m")
    assert code == 0, complaint
    for node in cluster.machines.nodes.values():
        assert LogLevel(node.own / "run").now()[0] == "warning"
    await asyncio.sleep(5 * SCRAPE_S)


async def _judge(cluster: Operated) -> dict[str, Any]:
    panels: dict[str, str] = {}
    for number, (title, query) in enumerate(queries()):
        for name, value in VARIABLES.items():
            query = query.replace(name, value)
        panels[f"{title} #{number}"] = query
    text = await _metrics(cluster)
    promtool("check", "metrics", given=text)
    found = await _ask(cluster, {**panels, "up": 'up{job="kagemusha"} == 1', "firing": 'ALERTS{alertstate="firing"}'})
    wrong = [
        f"{title}: no data for {panels[title]}"
        for title in panels
        if not found[title] and not _may_be_empty(panels[title])
    ]
    if len(found["up"]) != len(NAMES):
        wrong.append(f"{len(found['up'])} of {len(NAMES)} nodes are scraped")
    fired = {one["metric"]["alertname"] for one in found["firing"]}
    wrong += [f"{name} fires" for name in fired - EXPECTED - OF_A_BUSY_MACHINE]
    if "KagemushaTakeover" not in fired:
        wrong.append("KagemushaTakeover does not fire")
    return {
        "queries": len(panels),
        "with_data": sum(bool(found[title]) for title in panels),
        "metrics": len(metrics_in(text)),
        "firing": sorted(fired),
        "wrong": wrong,
    }


def _may_be_empty(query: str) -> bool:
    return bool(metrics_in(query) & EMPTY.keys())


async def _metrics(cluster: Operated) -> str:
    """All that node a tells."""
    code, out, err = await cluster.run("-c", _FETCH, f"https://{cluster.endpoint('a')}/metrics")
    assert code == 0, err
    return out


async def _ask(cluster: Operated, questions: dict[str, str]) -> dict[str, Any]:
    (cluster.machines.nodes[DESK].own / "questions.json").write_text(json.dumps(questions))
    file = cluster.directory.node / "questions.json"
    code, out, err = await cluster.run("-c", _ASK, str(file), f"http://127.0.0.1:{PORT}/api/v1/query?")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def _start(cluster: Operated) -> subprocess.Popen[bytes]:
    """Prometheus, at the desk. Its files are below the node's own directory, which has another path on the node."""
    desk, place = cluster.machines.nodes[DESK], cluster.directory.node / "prometheus"
    (desk.own / "prometheus").mkdir()
    (desk.own / "prometheus" / "token").write_text(cluster.tokens["viewer"])
    (desk.own / "prometheus" / "prometheus.yml").write_text(yaml.safe_dump(_config(cluster, place)))
    words: Sequence[str] = (
        str(BIN / "prometheus"),
        f"--config.file={place / 'prometheus.yml'}",
        f"--storage.tsdb.path={place / 'data'}",
        f"--web.listen-address=127.0.0.1:{PORT}",
    )
    with (cluster.directory.logs / "prometheus.log").open("wb") as log:
        return subprocess.Popen(desk.command(*words), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT)


def _config(cluster: Operated, place: Path) -> dict[str, Any]:
    authority = cluster.directory.node / "pki" / "authority.pem"
    return {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [
            {
                "job_name": f"kagemusha-{name}",
                "scheme": "https",
                "authorization": {"credentials_file": str(place / "token")},
                "tls_config": {"ca_file": str(authority), "server_name": name},
                "static_configs": [
                    {"targets": [cluster.endpoint(name)], "labels": {"job": "kagemusha", "cluster": "test"}}
                ],
            }
            for name in NAMES
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
