"""The steps of the trial, in their order. Each leaves the cluster as the next one needs it, and says what it measured.

What is refused (`bad input`) is in `refusals`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from tests.deploy.adoption import adopt
from tests.deploy.chaos import harm
from tests.deploy.interruptions import go_back, rotate_by_halves
from tests.deploy.machine import BOOT_S
from tests.deploy.recovery import back_up, restore
from tests.deploy.requirements import SWITCHOVER_MS_MAX, changes_nothing, kept, require
from tests.deploy.trial import NAMES, Figures, Trial, await_so, make_dist

TAKEOVER_MS_MAX: Final = 5000.0
"""What a client may wait when a machine loses its power: bounded here, measured by `make bench-takeover`."""
SILENCE_S_MAX: Final = 8.0
"""Less than a link that nobody acknowledges lives: a machine without power is known by its silence."""
LEFT: Final = (
    "ls -d /etc/systemd/system/keepalived.service.d "
    "/opt/kagemusha /etc/kagemusha /var/lib/kagemusha /run/kagemusha /usr/local/bin/kagemusha "
    "/etc/keepalived/keepalived.conf /etc/tmpfiles.d/*kagemusha* "
    "/etc/sysctl.d/*kagemusha* /etc/modules-load.d/*kagemusha* /etc/systemd/system/*kagemusha* "
    "/etc/systemd/system/*/*kagemusha* /sys/fs/cgroup/kagemusha /sys/fs/cgroup/system.slice/kagemusha* 2>/dev/null; "
    "grep -n kagemusha /etc/keepalived/keepalived.conf; nft list tables | grep kagemusha; "
    "pgrep --list-full 'kagemusha|kgm|redis'; ip -o address | grep 10.78.0.10; true"
)


def converge(trial: Trial) -> Figures:
    """Three bare machines become a cluster with a mirrored redis."""
    outcome = trial.operator.run("site")
    mirrored_s = trial.await_mirrored(2)
    nodes = trial.kagemusha("topology")["nodes"]
    require(sum(node["leader"] for node in nodes) == 1, f"one leader, of {nodes}")
    require(all(node["alive"] for node in nodes), "all nodes heard")
    for machine in trial.machines.values():
        state = trial.ssh.run(machine, "systemctl is-active kagemusha kagemusha-watchdog keepalived").split()
        require(state == ["active"] * 3, f"units active on {machine.name}, not {state}")
        keys = trial.ssh.run(machine, "stat -c '%a %U' /etc/kagemusha/pki/node.key /etc/kagemusha/token").split("\n")
        require(keys[:2] == ["600 root"] * 2, f"secrets for root alone, not {keys}")
    return {"took_s": outcome.took_s, "changed": outcome.changes, "mirrored_after_s": mirrored_s}


def change_nothing(trial: Trial) -> Figures:
    """Again, and with --check: nothing is to be changed, and that is what both say."""
    again, checked = trial.operator.run("site"), trial.operator.run("site", "--check")
    changes_nothing(again)
    changes_nothing(checked)
    return {"took_s": again.took_s, "changed": again.changes, "changed_with_check": checked.changes}


def restart_daemon(trial: Trial) -> Figures:
    """systemd starts the primary's daemon again: the program, its agent and its connections do not notice."""
    serving = str(trial.program()["primary"])
    before, machine = trial.pid(serving), trial.machines[serving]
    with trial.load() as seen:
        time.sleep(1)
        trial.ssh.run(machine, "systemctl restart kagemusha")
        trial.await_mirrored(2)
    require(trial.pid(serving) == before, "the same process")
    require(seen["failed"] == 0 and seen["lost"] == 0, f"no failed request: {seen}")
    return {**kept(seen), "answered": seen["answered"]}


def hang_daemon(trial: Trial) -> Figures:
    """A daemon that hangs is killed and started again by systemd, and its node is a node again."""
    mirror = next(name for name in NAMES if name != trial.program()["primary"])
    machine = trial.machines[mirror]
    trial.ssh.run(machine, "kill -STOP $(systemctl show --property MainPID --value kagemusha)")
    restarts = "systemctl show --property NRestarts --value kagemusha"
    took_s = await_so(lambda: trial.ssh.run(machine, restarts).strip() != "0", "restart by systemd", 40)
    trial.await_mirrored(2)
    return {"started_again_after_s": took_s}


def lose_power(trial: Trial) -> Figures:
    """The machine that serves loses its power: a client goes on elsewhere; then the machine is back, as a mirror."""
    serving = str(trial.program()["primary"])
    with trial.load() as seen:
        time.sleep(2)
        trial.machines[serving].power_off()
        trial.await_elsewhere(serving)
        silent_s = await_so(lambda: serving not in trial.alive(), f"word that {serving} is not heard", SILENCE_S_MAX)
        trial.await_mirrored(1)
    require(seen["longest_ms"] < TAKEOVER_MS_MAX, f"a client that waits less than {TAKEOVER_MS_MAX:g} ms: {seen}")
    trial.machines[serving].boot()
    booted_s = trial.ssh.await_boot(trial.machines[serving])
    back_s = trial.await_mirrored(2)
    return {
        "client_waited_ms": seen["longest_ms"],
        "failed": seen["failed"],
        "lost": seen["lost"],
        "said_to_be_lost_after_s": silent_s,
        "boot_s": booted_s,
        "mirror_again_after_s": back_s,
    }


def reboot(trial: Trial) -> Figures:
    """The machine that serves is booted, as anybody does it: its programs are handed over, and no request fails."""
    serving = str(trial.program()["primary"])
    machine = trial.machines[serving]
    began = "systemctl show --property UserspaceTimestampMonotonic --value"
    before = trial.ssh.run(machine, began)
    with trial.load() as seen:
        time.sleep(1)
        start_s = time.monotonic()
        trial.ssh.run(machine, "systemctl reboot --no-block")
        trial.await_elsewhere(serving)
        await_so(lambda: trial.ssh.run(machine, began) != before, "boot", BOOT_S)
        trial.ssh.await_boot(machine)
        trial.await_mirrored(2)
        back_s = time.monotonic() - start_s
    require(seen["failed"] == 0 and seen["lost"] == 0, f"no failed request: {seen}")
    require(seen["longest_ms"] < SWITCHOVER_MS_MAX, f"no longer wait than that of a switchover: {seen}")
    await_so(lambda: not any(node["drained"] for node in trial.kagemusha("topology")["nodes"]), "end of the drain", 30)
    return {**kept(seen), "mirror_again_after_s": back_s}


def upgrade(trial: Trial) -> Figures:
    """Another release under load: redis runs on, and no request fails."""
    before = {
        name: trial.ssh.run(machine, "readlink /opt/kagemusha/current") for name, machine in trial.machines.items()
    }
    trial.operator.dist = make_dist(trial.directory, "0.1.0.post1")
    trial.operator.write_inventory(trial.machines)
    with trial.load() as seen:
        outcome = trial.operator.run("upgrade", timeout_s=900)
    for name, machine in trial.machines.items():
        now = trial.ssh.run(machine, "readlink /opt/kagemusha/current")
        require("0.1.0.post1" in now and now != before[name], f"another release on {name}, not {now}")
        old = trial.ssh.run(machine, f"pgrep --full '[/]{before[name].strip().removeprefix('/')}/' || true").split()
        require(not old, f"nothing of the release before runs on {name}: {old}")
    require(seen["failed"] == 0 and seen["lost"] == 0, f"no failed request: {seen}")
    require(seen["longest_ms"] < SWITCHOVER_MS_MAX, f"no longer wait than that of a switchover: {seen}")
    return {
        "took_s": outcome.took_s,
        "answered": seen["answered"],
        "failed": seen["failed"],
        "lost": seen["lost"],
        "longest_wait_ms": seen["longest_ms"],
        "takeovers_unplanned": trial.program()["takeovers"],
    }


def rotate(trial: Trial) -> Figures:
    """Another authority and other certificates under load: nothing is started again, no request fails."""
    serving = str(trial.program()["primary"])
    before, daemons = trial.pid(serving), _daemons(trial)
    issuer = "md5sum /etc/kagemusha/pki/*.pem"
    certificates = {name: trial.ssh.run(machine, issuer) for name, machine in trial.machines.items()}
    with trial.load() as seen:
        outcome = trial.operator.run("rotate")
        trial.await_mirrored(2)
    require(seen["failed"] == 0 and seen["lost"] == 0, f"no failed request: {seen}")
    require((trial.pid(serving), _daemons(trial)) == (before, daemons), "the same processes")
    for name, machine in trial.machines.items():
        require(trial.ssh.run(machine, issuer) != certificates[name], f"another certificate on {name}")
    # New links by the new certificates alone: a mirror's machine is booted.
    mirror = next(name for name in NAMES if name != serving)
    trial.machines[mirror].power_off()
    trial.machines[mirror].boot()
    trial.ssh.await_boot(trial.machines[mirror])
    trial.await_mirrored(2)
    return {"took_s": outcome.took_s, **kept(seen)}


def replace_node(trial: Trial) -> Figures:
    """A machine is lost for good; another one takes its place. A run is killed between two epochs, the next ends it."""
    serving = str(trial.program()["primary"])
    lost = next(name for name in reversed(NAMES) if name != serving)
    trial.machines.pop(lost).close()
    before = trial.pid(serving)
    new = trial.add(lost, 4, disk="replacement")
    trial.ssh.await_boot(new)
    trial.operator.epoch += 1
    trial.operator.write_inventory(trial.machines)
    with trial.load() as seen:
        trial.operator.interrupt("replace_node", "Start its daemon again", serving, kagemusha_replace=lost)
        await_so(lambda: lost in trial.alive(serving), f"{serving} and the new {lost} in the next epoch", 20)
        outcome = trial.operator.run("replace_node", kagemusha_replace=lost)
        trial.await_mirrored(2)
    require(trial.pid(serving) == before, "the same process")
    require(seen["failed"] == 0 and seen["lost"] == 0, f"no failed request: {seen}")
    changes_nothing(trial.operator.run("site"))
    return {"ended_in_s": outcome.took_s, **kept(seen)}


def remove(trial: Trial) -> Figures:
    """Refused without a word of confirmation; with it nothing is left on any machine."""
    refused = trial.operator.attempt("remove")
    require(refused.status != 0 and "kagemusha_remove=trial" in refused.said, "a refusal that says what to type")
    require(refused.changes == 0, "nothing changed by what was refused")
    outcome = trial.operator.run("remove", kagemusha_remove="trial")
    for name, machine in trial.machines.items():
        left = trial.ssh.run(machine, LEFT).strip()
        require(not left, f"nothing left on {name}:\n{left}")
    require(trial.operator.run("remove", kagemusha_remove="trial").changes == 0, "nothing to be removed twice")
    return {"took_s": outcome.took_s}


def _daemons(trial: Trial) -> dict[str, str]:
    show = "systemctl show --property MainPID,NRestarts kagemusha"
    return {name: trial.ssh.run(machine, show) for name, machine in trial.machines.items()}


STEPS: Final[tuple[Callable[[Trial], Figures], ...]] = (
    converge,
    change_nothing,
    restart_daemon,
    hang_daemon,
    lose_power,
    reboot,
    upgrade,
    go_back,
    rotate,
    rotate_by_halves,
    replace_node,
    harm,
    adopt,
    back_up,
    restore,
    remove,
)
