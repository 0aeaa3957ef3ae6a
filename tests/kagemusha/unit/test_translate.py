"""Services become programs: what carries over, what does not, and what is refused."""

from __future__ import annotations

import tomllib

import pytest

from agent.program import Definition
from kagemusha.unit.text import Unit, read
from kagemusha.unit.toml import Clients, text_of
from kagemusha.unit.translate import Given, Program, translate
from transport.errors import ConfigError

FILES = {"/etc/default/web": "PORT=8080\nSECRET='k 1'\n"}
GIVEN = Given(
    FILES.get,
    lambda name: f"/usr/bin/{name}" if name == "web" else None,
    lambda user: {"web": "/srv/web", "root": "/root"}.get(user),
    "alpha",
)
GUARDED = """
[Unit]
Description=A store
After=network.target
ConditionPathExists=/etc/store.conf
[Service]
Type=notify
ExecStart=/usr/bin/store /etc/store.conf --supervise
TimeoutStopSec=0
Restart=always
User=store
Group=keepers
RuntimeDirectory=store store/sub
RuntimeDirectoryMode=2755
StateDirectory=store
LogsDirectory=store
UMask=007
LimitNOFILE=65535
LimitCORE=infinity
LimitNPROC=100:200
LimitRTPRIO=5
MemoryMax=3G
PrivateTmp=true
ProtectSystem=strict
ReadWritePaths=-/var/lib/store -/srv/more
CapabilityBoundingSet=
SystemCallFilter=@system-service
OOMScoreAdjust=-900
NoNewPrivileges=no
WatchdogSec=10
[Install]
WantedBy=multi-user.target
"""


def program_of(text: str, name: str = "store.service", program_id: str = "") -> Program:
    """The program of a unit with this text."""
    unit = Unit(name)
    read(unit, text, name)
    return translate(unit, GIVEN, program_id)


def service(*lines: str) -> str:
    """A unit whose service says this."""
    return "\n".join(("[Service]", *lines, ""))


def weights(program: Program) -> dict[str, str]:
    """The weight of what is said of each key."""
    return {remark.key.partition("=")[0]: remark.weight for remark in program.remarks}


def definition_of(program: Program, clients: Clients | None = None) -> Definition:
    """The file that is made of it, read again."""
    return Definition.model_validate(tomllib.loads(text_of(program, "store.service", clients or Clients())))


def test_a_guarded_store() -> None:
    program = program_of(GUARDED)
    found = definition_of(program)
    assert found.program.id == "store"
    assert found.program.command == ("/usr/bin/store", "/etc/store.conf", "--supervise")
    assert (found.program.user, found.program.group, found.program.umask) == ("store", "keepers", "0007")
    assert found.program.environment == {
        "RUNTIME_DIRECTORY": "/run/store:/run/store/sub",
        "STATE_DIRECTORY": "/var/lib/store",
        "LOGS_DIRECTORY": "/var/log/store",
    }
    assert (found.limits.open_files, found.limits.processes, found.limits.core_bytes) == (65535, 200, None)
    assert found.mirror.memory_mib_max == 3072
    assert found.program.oom_score_adjust == -900
    assert (found.failover.restart, found.failover.grace_ms) == ("always", 3_600_000)
    assert [(one.path, one.rule) for one in found.files] == [("/var/log/store/**", "local")]
    assert program.undecided == ["/var/lib/store/**", "/srv/more/**"]
    assert program.tmpfiles[:2] == ["d /run/store 2755 store keepers -", "d /run/store/sub 2755 store keepers -"]
    assert weights(program) == {
        "After": "note",
        "ConditionPathExists": "note",
        "Type": "note",
        "TimeoutStopSec": "note",
        "MemoryMax": "note",
        "LimitNPROC": "note",
        "LimitCORE": "lost",
        "LimitRTPRIO": "lost",
        "RuntimeDirectory": "lost",
        "StateDirectory": "lost",
        "LogsDirectory": "lost",
        "PrivateTmp": "lost",
        "ProtectSystem": "lost",
        "ReadWritePaths": "lost",
        "CapabilityBoundingSet": "lost",
        "SystemCallFilter": "lost",
        "WatchdogSec": "lost",
    }
    assert [remark.weight for remark in program.remarks] == sorted(remark.weight for remark in program.remarks)


def test_a_server_that_forks_is_told_so_first() -> None:
    program = program_of(
        service(
            "Type=forking",
            "PIDFile=/run/web.pid",
            "ExecStartPre=/usr/sbin/web -t -g 'daemon on;'",
            "ExecStart=/usr/sbin/web -g 'daemon on; workers 4;'",
            "ExecReload=/usr/sbin/web -s reload",
            "KillMode=mixed",
            "TimeoutStopSec=5",
        )
    )
    assert program.command == ["/usr/sbin/web", "-g", "daemon on; workers 4;"]
    assert program.remarks[0].key == "Type=forking"
    assert program.remarks[0].weight == "change"
    assert weights(program) == {"Type": "change", "ExecStartPre": "lost", "ExecReload": "note", "KillMode": "note"}
    assert (program.restart, program.grace_ms) == ("never", 5000)


def test_an_instance_of_a_template() -> None:
    text = service("ExecStart=-/usr/bin/cluster --name %i --data /var/lib/%I", "TimeoutStopSec=1h")
    program = program_of(text, "db@15-main.service")
    assert program.id == "db-15-main"
    assert program.command == ["/usr/bin/cluster", "--name", "15-main", "--data", "/var/lib/15/main"]
    assert program.grace_ms == 3_600_000
    with pytest.raises(ConfigError, match=r"db@\.service is a template") as refused:
        program_of(text, "db@.service")
    assert "db@main.service" in refused.value.hint


def test_environment_files_are_read_and_the_command_has_their_values() -> None:
    program = program_of(
        service(
            'Environment=HOST=:: "GREETING=good day" PORT=1',
            "EnvironmentFile=-/etc/default/none",
            "EnvironmentFile=/etc/default/web",
            "UnsetEnvironment=HOST",
            "ExecStart=web --port ${PORT} $OPTIONS",
            "WorkingDirectory=~",
            "User=web",
        )
    )
    assert program.command == ["/usr/bin/web", "--port", "8080"]
    assert program.environment == {"GREETING": "good day", "PORT": "8080", "SECRET": "k 1"}
    assert program.secret
    assert program.directory == "/srv/web"
    assert "k 1" not in "".join(map(str, program.remarks))
    assert "it has no value in this unit, and is left empty" in {remark.why for remark in program.remarks}


def test_what_nobody_knows_is_said_too() -> None:
    program = program_of(service("ExecStart=/bin/a", "FancyNewThing=yes", "AmbientCapabilities=CAP_NET_BIND_SERVICE"))
    assert weights(program) == {"FancyNewThing": "lost", "AmbientCapabilities": "change"}


def test_how_clients_find_it_may_be_given() -> None:
    program = program_of(service("ExecStart=/bin/a"), program_id="other")
    found = definition_of(program, Clients("keepalived", "10.0.0.100/24", "eth0", 77))
    assert found.program.id == "other"
    assert found.redirect is not None
    assert (found.redirect.driver, found.redirect.address, found.redirect.router_id) == (
        "keepalived",
        "10.0.0.100/24",
        77,
    )


def test_text_keeps_what_must_be_escaped() -> None:
    program = program_of(service(r'ExecStart=/bin/a "say \"hi\"" \x7f\t ä', r"Environment='A=\\d \x41'"))
    found = definition_of(program)
    assert found.program.command == ("/bin/a", 'say "hi"', "\x7f\t", "ä")
    assert found.program.environment == {"A": "\\d A"}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (service("User=x"), "store.service has no ExecStart"),
        ("[Socket]\nListenStream=80\n", r"store.service has no section \[Service\]"),
        (service("ExecStart=/bin/a", "ExecStart=/bin/b"), "2 commands in ExecStart"),
        (service("ExecStart=/bin/a ; /bin/b"), "is not one command"),
        (service("ExecStart=nowhere"), "nowhere: is not found on this node"),
        (service("ExecStart=/bin/a", "DynamicUser=yes"), "DynamicUser"),
        (service("ExecStart=/bin/a", "RootDirectory=/srv/jail"), "a root of its own"),
        (service("ExecStart=/bin/a", "EnvironmentFile=/etc/default/none"), "can't be read"),
        (service("ExecStart=/bin/a", "Environment=x"), "is no NAME=value"),
        (service("ExecStart=/bin/a", "UMask=worldly"), "is no octal mask"),
        (service("ExecStart=/bin/a", "LimitNOFILE=many"), "is no number"),
        (service("ExecStart=/bin/a", "OOMScoreAdjust=low"), "is no number"),
        (service("ExecStart=/bin/a", "User=nobody-here", "WorkingDirectory=~"), "has no user nobody-here"),
        (service("ExecStart=/bin/a %b"), "%b in"),
    ],
)
def test_what_is_refused_is_refused_in_one_line(text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what) as refused:
        program_of(text)
    assert "\n" not in refused.value.what
