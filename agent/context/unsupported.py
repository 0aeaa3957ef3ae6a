"""Descriptors that can't be mirrored, by name, with what to do about each."""

from __future__ import annotations

import re

from agent.context.kind import Depends, Restore, Walk, refuse
from agent.context.look import Look
from agent.context.network import Network
from agent.errors import RestoreError
from agent.reason import Reason

_ANONYMOUS = re.compile(r"^anon_inode:\[?([\w -]+)\]?$")
_NAMESPACE = re.compile(r"^[a-z_]+:\[\d+\]$")

# inotify: a watch belongs to an inode, and fdinfo names it only by device and inode number; on the other node the path
# would have to be found by searching the file system, and events of a watched file that differs there would be wrong.
_REMEDIES = {
    "inotify": ("an inotify instance", "turn off the watching of files in the program's configuration"),
    "fanotify": ("a fanotify instance", "turn off the watching of files in the program's configuration"),
    "io_uring": ("an io_uring instance", "tell the program to use epoll (many have a switch such as --no-io-uring)"),
    "userfaultfd": ("a userfaultfd", "turn off what uses it (post-copy migration, some garbage collectors)"),
    "perf_event": ("a performance counter", "start the program without profiling"),
    "pidfd": ("a pidfd", "let the program wait for its children by waitpid"),
    "bpf-prog": ("a BPF program", "load it from another program"),
    "bpf-map": ("a BPF map", "load it from another program"),
    "bpf_link": ("a BPF link", "load it from another program"),
    "seccomp notify": ("a seccomp listener", "start the program without it"),
    "landlock-ruleset": ("a landlock ruleset that is still open", "let the program close it after use"),
    "kvm-vm": ("a virtual machine", "mirror what runs inside of it instead"),
    "mount": ("a detached mount", "let the program close it after use"),
    "NETLINK": ("a netlink socket", "turn off what watches network interfaces in the program's configuration"),
    "PACKET": ("a packet socket", "start the program without packet capture"),
    "RAW": ("a raw socket", "start the program without it"),
    "MPTCP": ("a multipath TCP socket", "start the program without it (Go: GODEBUG=multipathtcp=0)"),
    "SCTP": ("an SCTP socket", "let the program use TCP instead"),
    "SMC": ("an SMC socket", "start the program without smc_run"),
    "AF_VSOCK": ("a socket to the hypervisor", "let the program use TCP instead"),
    "namespace": ("an open namespace", "let the program close it after use"),
    "/dev/mqueue": ("a message queue", "let the program use a socket or pipe instead"),
}


class UnsupportedKind:
    """Whatever no other kind owns: a reason, never a record."""

    name = "unsupported"
    depends: Depends = "content"

    def __init__(self, network: Network) -> None:
        self._network = network

    def owns(self, look: Look, walk: Walk) -> bool:
        """Everything."""
        return True

    def capture(self, look: Look, walk: Walk) -> bytes:
        """Refuses."""
        raise refuse(self.reasons(look, walk)[0])

    def reasons(self, look: Look, walk: Walk) -> list[Reason]:
        """What it is, and what to do."""
        name = look.link
        anonymous = _ANONYMOUS.match(look.link)
        if anonymous:
            name = anonymous[1]
        elif look.link.startswith("socket:"):
            name = self._network.protocol(look, walk)
        elif _NAMESPACE.match(look.link):
            name = "namespace"
        what, remedy = _REMEDIES.get(name, (f"a descriptor of an unknown kind, {name}", "start the program without it"))
        return [Reason(what, walk.where(look.number), remedy)]

    def restore(self, key: str, data: bytes, restore: Restore) -> None:
        """There is nothing to be restored."""
        raise RestoreError(f"record {key} is of no kind that this version knows")
