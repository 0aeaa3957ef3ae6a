#!/usr/bin/python
"""What preflight has to know of a node. Reads only; needs nothing but Python's own library, as root."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_facts
short_description: What of a machine decides whether it can be a node
description:
  - Reads the kernel's release and configuration, the processor's features, the clock, who listens on the ports that a
    node needs, and who on the network answers for the programs' addresses. Changes nothing.
author:
  - the kagemusha authors
options:
  ports:
    description: TCP ports that the node's daemon and agents will listen on.
    type: list
    elements: int
    default: []
  options:
    description: Options of the kernel's configuration that are needed, without CONFIG_.
    type: list
    elements: str
    default: []
  addresses:
    description: IPv4 addresses of programs that nobody else may have, without a prefix length.
    type: list
    elements: str
    default: []
  interface:
    description: Where to ask for them; that of the default route, or the only one there is, if it is not named.
    type: str
    default: ""
  python:
    description: The Python that will run the node's daemon.
    type: str
    default: /usr/bin/python3
"""

EXAMPLES = r"""
- name: See what the node is
  kagemusha.cluster.node_facts:
    ports: [7400, 7401, 7402]
  register: seen
"""

RETURN = r"""
kernel:
  description: Release of the running kernel.
  type: str
  returned: always
missing_options:
  description: Options that the kernel was built without; none where its configuration can't be found.
  type: list
  returned: always
cpu:
  description: Model and features of the processor.
  type: dict
  returned: always
clock_s:
  description: Seconds since 1970, as this machine counts them.
  type: float
  returned: always
synchronised:
  description: Whether the kernel says that something keeps its clock right.
  type: bool
  returned: always
taken:
  description: Of the ports, those that something else listens on.
  type: list
  returned: always
answers:
  description: Of the addresses, those that somebody answers for, with the hardware address.
  type: dict
  returned: always
interfaces:
  description: Names of the machine's network interfaces.
  type: list
  returned: always
macs:
  description: The machine's own hardware addresses.
  type: list
  returned: always
python:
  description: Version of the Python that was asked about; empty where there is none.
  type: str
  returned: always
release:
  description: The release of kagemusha that is installed; empty where there is none.
  type: str
  returned: always
running:
  description: The releases of kagemusha that run.
  type: list
  returned: always
drained:
  description: Whether an upgrade has drained the node and not come to its end.
  type: bool
  returned: always
"""

import ctypes
import fcntl
import gzip
import os
import select
import socket
import struct
import subprocess
import time

ROOT = "/opt/kagemusha"
NETWORK = "/sys/class/net"
ARP, ARP_REQUEST, ARP_REPLY = 0x0806, 1, 2
ARP_TIMES, ARP_WAIT_S = 3, 0.3
STA_UNSYNC = 0x0040


def kernel_config(release):
    """The lines of the kernel's configuration, or None where it can't be found."""
    try:
        if os.path.exists("/proc/config.gz"):
            with gzip.open("/proc/config.gz", "rt") as file:
                return file.read().splitlines()
        with open("/boot/config-" + release) as file:
            return file.read().splitlines()
    except OSError:
        return None


def missing_options(lines, wanted):
    """Of the options, those that are neither built in nor a module."""
    if lines is None:
        return []
    there = {line.split("=", 1)[0] for line in lines if line.startswith("CONFIG_") and line.endswith(("=y", "=m"))}
    return [name for name in wanted if "CONFIG_" + name not in there]


def processor(text):
    """Model and features of the first processor of a /proc/cpuinfo."""
    fields = {}
    for line in text.split("\n\n", 1)[0].splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields[key.strip()] = value.strip()
    return {"model": fields.get("model name", ""), "flags": sorted(fields.get("flags", "").split())}


def listeners(text):
    """Inode by port, of the sockets that listen in a /proc/net/tcp or tcp6."""
    found = {}
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == "0A":
            found[int(fields[1].rsplit(":", 1)[1], 16)] = fields[9]
    return found


def owners(inodes):
    """The process by inode, of those that can be found: pid, name and cgroup."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            names = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        for name in names:
            inode = name[8:-1] if name.startswith("socket:[") else ""
            if inode in inodes:
                found[inode] = process(pid)
    return found


def process(pid):
    """What a person needs to find a process."""
    try:
        with open(f"/proc/{pid}/comm") as comm, open(f"/proc/{pid}/cgroup") as cgroup:
            return {"pid": int(pid), "name": comm.read().strip(), "cgroup": cgroup.read().strip().rsplit(":", 1)[-1]}
    except OSError:
        return {"pid": int(pid), "name": "", "cgroup": ""}


def taken(ports):
    """Of the ports, those on which something listens that is not kagemusha's own."""
    listening = {}
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        if os.path.exists(name):
            with open(name) as file:
                listening.update(listeners(file.read()))
    wanted = {port: listening[port] for port in ports if port in listening}
    by_inode = owners(set(wanted.values()))
    nobody = {"pid": 0, "name": "", "cgroup": ""}
    found = [dict(by_inode.get(inode, nobody), port=port) for port, inode in sorted(wanted.items())]
    return [one for one in found if "kagemusha" not in one["cgroup"]]


def is_synchronised():
    """Whether the kernel's clock is kept right (adjtimex(2))."""
    buffer = ctypes.create_string_buffer(256)
    if ctypes.CDLL(None, use_errno=True).adjtimex(buffer) < 0:
        return False
    return not struct.unpack_from("i", buffer, 40)[0] & STA_UNSYNC


def hardware_address(interface):
    """The interface's own, six bytes; SIOCGIFHWADDR of netdevice(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return fcntl.ioctl(sock, 0x8927, struct.pack("256s", interface.encode()[:15]))[18:24]


def default_interface():
    """Of the default route, else the only one beside the loopback; empty where that is not clear."""
    with open("/proc/net/route") as file:
        rows = [line.split() for line in file.read().splitlines()[1:]]
    names = [row[0] for row in rows if row[1] == "00000000"] or sorted({row[0] for row in rows})
    return names[0] if names else ""


def arp_probe(address, own):
    """The packet that asks who has an IPv4 address, without saying that anybody has another (RFC 5227)."""
    ethernet = b"\xff" * 6 + own + struct.pack("!H", ARP)
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, ARP_REQUEST)
    return ethernet + head + own + b"\0" * 4 + b"\0" * 6 + socket.inet_aton(address)


def answered(packet, addresses):
    """Who says in this packet that an address of these is its own: (address, hardware address), or None."""
    if len(packet) < 42 or struct.unpack_from("!H", packet, 12)[0] != ARP:
        return None
    if struct.unpack_from("!H", packet, 20)[0] != ARP_REPLY:
        return None
    address = socket.inet_ntoa(packet[28:32])
    return (address, ":".join(f"{byte:02x}" for byte in packet[22:28])) if address in addresses else None


def who_has(addresses, interface):
    """Of the addresses, those that somebody on the interface's network answers for."""
    found = {}
    if not addresses or not interface:
        return found
    own = hardware_address(interface)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ARP)) as sock:
        sock.bind((interface, ARP))
        for _dummy in range(ARP_TIMES):
            for address in addresses:
                sock.send(arp_probe(address, own))
            until_s = time.monotonic() + ARP_WAIT_S
            while time.monotonic() < until_s:
                if select.select([sock], [], [], max(until_s - time.monotonic(), 0))[0]:
                    answer = answered(sock.recv(2048), addresses)
                    if answer:
                        found[answer[0]] = answer[1]
    return found


def interfaces():
    """Names of all network interfaces of this machine."""
    return sorted(name for name in os.listdir(NETWORK) if os.path.isdir(os.path.join(NETWORK, name)))


def macs():
    """All hardware addresses of this machine."""
    found = []
    for name in interfaces():
        try:
            with open(f"{NETWORK}/{name}/address") as file:
                found.append(file.read().strip())
        except OSError:
            continue
    return [mac for mac in found if mac.strip("0:")]


def release_of(command_line):
    """The release that a process of kagemusha is of, by its command line; empty for any other process."""
    words = [os.fsdecode(word) for word in command_line.split(b"\0")]
    start = ROOT + "/releases/"
    is_ours = words[1:3] == ["-m", "kagemusha"] or words[1:2] == [ROOT + "/current/bin/kagemusha"]
    return words[0][len(start) :].split("/", 1)[0] if is_ours and words[0].startswith(start) else ""


def running():
    """The releases that processes of this machine are of."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                found.add(release_of(file.read()))
        except OSError:
            continue
    return sorted(found - {""})


def python_version(command):
    """Of a Python; empty where it can't be run."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        return subprocess.run([command, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def main():
    """Read all of it, for Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(
        argument_spec={
            "ports": {"type": "list", "elements": "int", "default": []},
            "options": {"type": "list", "elements": "str", "default": []},
            "addresses": {"type": "list", "elements": "str", "default": []},
            "interface": {"type": "str", "default": ""},
            "python": {"type": "str", "default": "/usr/bin/python3"},
        },
        supports_check_mode=True,
    )
    given = module.params
    release, current = os.uname().release, ROOT + "/current"
    with open("/proc/cpuinfo") as file:
        cpu = processor(file.read())
    interface = given["interface"] or default_interface()
    try:
        # One that is not there is refused by its name.
        answers = who_has(given["addresses"], interface) if interface in interfaces() else {}
    except OSError as error:
        module.fail_json(msg="can't ask who has {}: {}".format(", ".join(given["addresses"]), error.strerror))
    module.exit_json(
        changed=False,
        kernel=release,
        missing_options=missing_options(kernel_config(release), given["options"]),
        cpu=cpu,
        clock_s=time.time(),
        synchronised=is_synchronised(),
        taken=taken(given["ports"]),
        answers=answers,
        interfaces=interfaces(),
        macs=macs(),
        python=python_version(given["python"]),
        release=os.path.basename(os.path.realpath(current)) if os.path.exists(current) else "",
        running=running(),
        drained=os.path.exists(ROOT + "/drained-by-upgrade"),
    )


if __name__ == "__main__":
    main()
