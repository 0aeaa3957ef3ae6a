"""A service that systemd runs becomes a program, by one variable of the inventory."""

from __future__ import annotations

from typing import Final

from tests.deploy.ansible import REDIS
from tests.deploy.lan import INTERFACE
from tests.deploy.requirements import changes_nothing, require
from tests.deploy.shell import run
from tests.deploy.trial import NAMES, Figures, Trial

ADDRESS: Final = "10.78.0.101"
PORT: Final = 6380
CACHE: Final = {
    "id": "cache",
    "adopt": "redis-server.service",
    "address": f"{ADDRESS}/24",
    "interface": INTERFACE,
    "additions": f'[[health]]\nkind = "exchange"\nport = {PORT}\nsend = "PING\\r\\n"\nexpect = "+PONG"\n',
}
SETTINGS: Final = (
    "mkdir -p /etc/systemd/system/redis-server.service.d && "
    "printf '[Service]\\nLimitNOFILE=10032\\n' > /etc/systemd/system/redis-server.service.d/limit.conf && "
    f"sed -i 's/^bind .*/bind 0.0.0.0/; s/^port .*/port {PORT}/; s/^protected-mode .*/protected-mode no/' "
    "/etc/redis/redis.conf && systemctl daemon-reload"
)
"""As somebody has it: another port, for everybody, and with a limit that any machine allows."""


def adopt(trial: Trial) -> Figures:
    """Debian's redis-server.service, in use on one machine, becomes a program on all, by a run that is killed and one
    that ends it; what it had saved is there."""
    home = NAMES[1]
    for machine in trial.machines.values():
        trial.ssh.run(machine, SETTINGS)
    start = f"systemctl enable --now redis-server && redis-cli -p {PORT} SET kept 42"
    trial.ssh.run(trial.machines[home], start)
    only_defined = {key: value for key, value in REDIS.items() if key != "replaces"}
    trial.operator.programs = [only_defined, CACHE]
    trial.operator.write_inventory(trial.machines)
    # Killed when the unit is off and the program is not on yet.
    said = trial.operator.interrupt("site", f"Stop the unit that ran it before | {CACHE['id']}", home)
    require("lost: PrivateTmp=true" in said, "a word on what does not carry over")
    outcome = trial.operator.run("site")
    trial.await_mirrored(2, name="cache")
    require(trial.program("cache")["primary"] == home, f"cache where its service was, on {home}")
    for machine in trial.machines.values():
        state = trial.ssh.attempt(machine, "systemctl is-enabled redis-server; systemctl is-active redis-server")[1]
        require(state.split() == ["disabled", "inactive"], f"the unit off on {machine.name}, not {state}")
    require(_ask(trial, "GET kept") == "42", "what the service had saved")
    changes_nothing(trial.operator.run("site"))
    _ask(trial, "SET kept 43")
    other = next(name for name in NAMES if name != home)
    trial.ssh.run(trial.machines[home], f"kagemusha switchover cache@{other} -e {trial.machines[home].address}:7402")
    require(_ask(trial, "GET kept") == "43", f"what it held in memory, on {other}")
    return {"ended_in_s": outcome.took_s, "told": said.count("redis-server.service: lost:")}


def _ask(trial: Trial, words: str) -> str:
    argv = trial.lan.command("redis-cli", "-h", ADDRESS, "-p", str(PORT), *words.split())
    return run(*argv).strip()
