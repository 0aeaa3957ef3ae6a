"""What of a unit does not carry over, and why: one line for each key that has a value. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from kagemusha.unit.text import Unit

Weight = Literal["change", "lost", "note"]
"""change: it will not work unless something is changed first. lost: it works without. note: it is so in another way."""


@dataclass(frozen=True, slots=True)
class Remark:
    """One line. key: "PrivateTmp=true"."""

    weight: Weight
    key: str
    why: str

    def __str__(self) -> str:
        return f"{self.weight}: {self.key}: {self.why}"


QUIET: Final = frozenset(
    {
        *("Description", "Documentation", "TimeoutStartSec", "RestartSec", "RestartSteps", "RestartMaxDelaySec"),
        *(
            "SyslogIdentifier",
            "PIDFile",
            "SourcePath",
            "StartLimitInterval",
            "StartLimitBurst",
            "StartLimitIntervalSec",
        ),
        *("DefaultDependencies", "TimeoutSec", "TimeoutAbortSec", "GuessMainPID", "RefuseManualStart"),
        *("RefuseManualStop", "AllowIsolate", "CollectMode", "RemainAfterExit"),
        *("RuntimeDirectoryMode", "StateDirectoryMode", "CacheDirectoryMode", "LogsDirectoryMode"),
        *("ConfigurationDirectoryMode",),
    }
)
"""Keys that lose nothing: of starting under systemd, or for people."""

CARRIED: Final = frozenset(
    {
        *("Type", "ExecStart", "User", "Group", "UMask", "WorkingDirectory", "Environment", "EnvironmentFile"),
        *("UnsetEnvironment", "Restart", "TimeoutStopSec", "MemoryMax", "DynamicUser", "RootDirectory", "RootImage"),
        *("OOMScoreAdjust",),
        *("LimitNOFILE", "LimitNPROC", "LimitSTACK", "LimitMEMLOCK", "LimitAS", "LimitDATA", "LimitFSIZE", "LimitCORE"),
    }
)
"""Keys that `translate` looks at itself."""

_SANDBOX: Final = "the program runs in the node's own namespaces; a mirror could not be given the same ones"
_FILES: Final = "kagemusha shuts no path away from the program; file modes and its user do"
_SECCOMP: Final = "filters of system calls are not put up, and a program with one can't be mirrored"
_CAPABILITIES: Final = "it has the capabilities of its user: all for root, none for others"
_CGROUP: Final = "its cgroup is kagemusha's, which sets no limits"
_SCHEDULING: Final = "it has ordinary priority"
_COMMANDS: Final = "only the program itself is run; let a script of your own do this before, or after"
_ORDER: Final = "kagemusha starts it, whatever else is up; it needs what it needs on every node"
_CONDITIONS: Final = "nothing is asked before a start"
_OUTPUT: Final = "its output goes to kagemusha's log of the node"
_SOCKETS: Final = "nobody listens on its behalf, or keeps its descriptors: it must open its sockets itself"
_DIRECTORY: Final = "nobody makes it: have systemd-tmpfiles make it on every node"
_DIES: Final = "systemd does not look after it any more: [failover] says what happens when it ends"
_IPC: Final = "what it leaves in System V and POSIX IPC stays there"


def _all(weight: Weight, why: str, *keys: str) -> dict[str, tuple[Weight, str]]:
    return dict.fromkeys(keys, (weight, why))


LOSSES: Final[dict[str, tuple[Weight, str]]] = {
    **_all("lost", _SANDBOX, "PrivateTmp", "PrivateDevices", "PrivateNetwork", "PrivateUsers", "PrivateMounts"),
    **_all("lost", _SANDBOX, "PrivateIPC", "NetworkNamespacePath", "MountFlags", "BindPaths", "BindReadOnlyPaths"),
    **_all("lost", _SANDBOX, "TemporaryFileSystem", "MountAPIVFS", "RootHash", "ProtectProc", "ProcSubset"),
    **_all("lost", _FILES, "ProtectSystem", "ProtectHome", "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths"),
    **_all("lost", _FILES, "ReadWriteDirectories", "ReadOnlyDirectories", "InaccessibleDirectories", "ExecPaths"),
    **_all("lost", _FILES, "NoExecPaths", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs"),
    **_all("lost", _FILES, "ProtectControlGroups", "ProtectClock", "ProtectHostname", "DeviceAllow", "DevicePolicy"),
    **_all("lost", _SECCOMP, "SystemCallFilter", "SystemCallArchitectures", "SystemCallErrorNumber", "SystemCallLog"),
    **_all("lost", _SECCOMP, "RestrictAddressFamilies", "RestrictNamespaces", "RestrictRealtime", "LockPersonality"),
    **_all("lost", _SECCOMP, "RestrictSUIDSGID", "MemoryDenyWriteExecute", "RestrictFileSystems", "Personality"),
    **_all("lost", _CAPABILITIES, "CapabilityBoundingSet", "SecureBits", "NoNewPrivileges"),
    **_all("change", f"{_CAPABILITIES}; a port below 1024 needs root, or net.ipv4.ip_unprivileged_port_start",
           "AmbientCapabilities"),
    **_all("lost", _CGROUP, "Slice", "Delegate", "CPUQuota", "CPUWeight", "CPUShares", "AllowedCPUs", "IOWeight"),
    **_all("lost", _CGROUP, "BlockIOWeight", "MemoryHigh", "MemoryLow", "MemoryMin", "MemorySwapMax", "MemoryLimit"),
    **_all("lost", _CGROUP, "TasksMax", "TasksAccounting", "MemoryAccounting", "CPUAccounting", "IOAccounting"),
    **_all("lost", _CGROUP, "IPAccounting", "IPAddressAllow", "IPAddressDeny", "ManagedOOMPreference"),
    **_all("lost", _SCHEDULING, "Nice", "CPUSchedulingPolicy", "CPUSchedulingPriority", "CPUAffinity", "NUMAPolicy"),
    **_all("lost", _SCHEDULING, "IOSchedulingClass", "IOSchedulingPriority", "CPUSchedulingResetOnFork"),
    **_all("note", "it is taken over when the kernel ends it for memory", "OOMPolicy"),
    **_all("lost", _COMMANDS, "ExecStartPre", "ExecStartPost", "ExecCondition", "ExecStopPost"),
    **_all("note", "a reload is a signal of your own; kagemusha has no word for it", "ExecReload", "ReloadSignal"),
    **_all("note", "`kagemusha stop` sends SIGTERM, and SIGKILL after grace_ms", "ExecStop", "KillSignal", "KillMode"),
    **_all("note", "`kagemusha stop` sends SIGTERM, and SIGKILL after grace_ms", "SendSIGHUP", "SendSIGKILL",
           "FinalKillSignal", "RestartKillSignal"),
    **_all("lost", "nobody is told that it lives: a [[health]] check asks it instead", "WatchdogSec", "WatchdogSignal"),
    **_all("note", "nobody hears what it tells of its state", "NotifyAccess", "BusName", "StatusText"),
    **_all("change", _SOCKETS, "Sockets", "FileDescriptorStoreMax"),
    **_all("note", _OUTPUT, "StandardOutput", "StandardError", "SyslogFacility", "SyslogLevel", "LogLevelMax"),
    **_all("note", _OUTPUT, "LogRateLimitIntervalSec", "LogRateLimitBurst", "LogExtraFields", "LogNamespace"),
    **_all("change", "its standard input is empty", "StandardInput", "StandardInputText", "StandardInputData"),
    **_all("change", "a program on a terminal can't be mirrored", "TTYPath", "TTYReset", "TTYVHangup"),
    **_all("lost", _DIRECTORY, "RuntimeDirectory", "StateDirectory", "CacheDirectory", "LogsDirectory"),
    **_all("lost", _DIRECTORY, "ConfigurationDirectory"),
    **_all("note", "systemd-tmpfiles does not take it away when the program ends", "RuntimeDirectoryPreserve"),
    **_all("lost", "only the user's own groups are set", "SupplementaryGroups"),
    **_all("lost", "nothing is inherited: write the variable into [program] environment", "PassEnvironment"),
    **_all("lost", "there is no session", "PAMName", "KeyringMode", "UtmpIdentifier", "UtmpMode"),
    **_all("lost", "credentials are not given to it: let it read a file", "LoadCredential", "SetCredential",
           "LoadCredentialEncrypted", "SetCredentialEncrypted", "ImportCredential"),
    **_all("lost", _DIES, "RestartPreventExitStatus", "RestartForceExitStatus", "SuccessExitStatus", "OnFailure"),
    **_all("lost", _DIES, "OnSuccess", "StartLimitAction", "FailureAction", "SuccessAction", "RuntimeMaxSec"),
    **_all("lost", "[limits] has no such limit", "LimitCPU", "LimitRSS", "LimitLOCKS", "LimitSIGPENDING",
           "LimitMSGQUEUE", "LimitNICE", "LimitRTPRIO", "LimitRTTIME"),
    **_all("lost", _IPC, "RemoveIPC"),
    **_all("lost", "it has the defaults of the node", "CoredumpFilter", "IgnoreSIGPIPE", "TimerSlackNSec"),
}  # fmt: skip

_UNIT_LOSSES: Final = {
    **_all("note", _ORDER, "After", "Before", "Requires", "Requisite", "Wants", "BindsTo", "PartOf", "Upholds"),
    **_all("note", _ORDER, "RequiresMountsFor", "Conflicts", "ReloadPropagatedFrom", "PropagatesReloadTo"),
    **_all("note", _ORDER, "JoinsNamespaceOf", "StopWhenUnneeded", "StopPropagatedFrom", "PropagatesStopTo"),
    **_all("lost", _DIES, "OnFailure", "OnSuccess", "FailureAction", "SuccessAction", "StartLimitAction"),
}
_ON_BY_DEFAULT: Final = frozenset({"SendSIGKILL", "IgnoreSIGPIPE"})


def losses(unit: Unit) -> Iterator[Remark]:
    """Everything that is said in the unit and not carried over."""
    if unit.is_emptied("CapabilityBoundingSet"):
        yield Remark("lost", "CapabilityBoundingSet=", _CAPABILITIES)
    for key in unit.names():
        if key in QUIET | CARRIED or (not unit.says(key) and key not in _ON_BY_DEFAULT):
            continue
        weight, why = LOSSES.get(key, ("lost", "kagemusha does not know it; see systemd.directives(7)"))
        yield Remark(weight, f"{key}={_short(unit.all(key))}", why)
    for key in unit.names("Unit"):
        if key.startswith(("Condition", "Assert")):
            yield Remark("note", f"{key}={_short(unit.all(key, 'Unit'))}", _CONDITIONS)
        elif key not in QUIET and unit.says(key, "Unit"):
            weight, why = _UNIT_LOSSES.get(key, ("lost", "kagemusha does not know it; see systemd.directives(7)"))
            yield Remark(weight, f"{key}={_short(unit.all(key, 'Unit'))}", why)


def _short(values: list[str]) -> str:
    text = " ".join(values)
    return text if len(text) <= 60 else text[:57] + "..."
