"""The table of a live program as records: shared, separate and unchanged descriptions, refusals and losses by name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.context.descriptors import DescriptorCapture
from agent.context.epoll import Epoll
from agent.context.files import File
from agent.context.record import unpack
from agent.context.table import Number
from agent.context.unix import Unix
from agent.errors import CaptureError, Unsupported
from agent.kernel import ptrace, wait
from agent.reason import Reason
from agent.tracing.stepping import next_stop
from agent.tracing.stopped import RemoteCall, Stopped
from transport.checkpoint import Records

_PRELUDE = """
import array, ctypes, fcntl, os, pty, select, socket, sys, tempfile
def next_step():
    print("ready", flush=True)
    return sys.stdin.readline()
"""


def no_rule(path: str) -> str | None:
    return None


def _no_call(tid: int) -> RemoteCall:
    raise AssertionError("nothing may be injected")


@dataclass
class Program:
    """A Python program that does one thing after the other, each when it is told to."""

    process: subprocess.Popen[str]
    capture: DescriptorCapture
    pidfd: int
    previous: Records = field(default_factory=dict)

    def step(self) -> None:
        """Let it go on to its next `next_step()`."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.wait()

    def wait(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def stopped(self, *, dying: bool = False) -> Stopped:
        pid = self.process.pid
        return Stopped(pid, {pid: pid}, -1, self.pidfd, _no_call, self.previous, dying)  # type: ignore[arg-type]

    def records(self, *, dying: bool = False) -> Records:
        self.previous = self.capture.capture(self.stopped(dying=dying))
        return self.previous

    def reasons(self) -> list[Reason]:
        """What is said against it, but for standard input and output, which are pipes to this test."""
        found = self.capture.reasons_against(self.stopped())
        own = tuple(f"descriptor {number} of" for number in range(3))
        return [reason for reason in found if not reason.where.startswith(own)]

    def key(self, number: int) -> str:
        return unpack(Number, self.records()[f"fd/{number}"]).key


Start = Callable[..., Program]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a program from its Python text; `next_step()` in it ends a step."""
    running: list[Program] = []

    def start(text: str, rule_for: Callable[[str], str | None] = no_rule) -> Program:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _PRELUDE + text],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=tmp_path,
        )
        pidfd = os.pidfd_open(process.pid)
        program = Program(process, DescriptorCapture(process.pid, rule_for), pidfd)
        running.append(program)
        program.wait()
        return program

    yield start
    for program in running:
        program.capture.close()
        os.close(program.pidfd)
        program.process.kill()
        program.process.communicate()


@contextmanager
def held_at_its_end(pid: int) -> Iterator[None]:
    """Kill a process and hold it in PTRACE_EVENT_EXIT within the block."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        ptrace.seize(pid, ptrace.TRACEEXIT)
        os.kill(pid, signal.SIGKILL)
        assert next_stop(pid, "its end").event == wait.EVENT_EXIT
        yield
        ptrace.cont(pid)
        assert next_stop(pid, "its death").exited
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def test_numbers_share_a_description_only_if_the_program_shares_it(start: Start) -> None:
    program = start("""
a = os.open("/etc/passwd", os.O_RDONLY)
b = os.open("/etc/passwd", os.O_RDONLY)
os.dup2(a, 50)
os.dup2(a, 51, inheritable=False)
next_step()
os.dup2(a, b, inheritable=False)
next_step()
""")
    records = program.records()
    first = unpack(Number, records["fd/50"])
    assert first == Number(first.key, cloexec=False)
    assert unpack(Number, records["fd/51"]) == Number(first.key, cloexec=True)
    number = int(first.key.partition(":")[2])
    assert program.key(number) == first.key
    assert program.key(number + 1) == f"file:{number + 1}"
    before = program.previous["ofd/" + first.key]
    program.step()  # nothing but the sharing changes: both look as they did
    assert program.key(number + 1) == first.key
    assert f"ofd/file:{number + 1}" not in program.previous
    assert program.previous["ofd/" + first.key] == before


def test_what_does_not_change_gives_the_same_bytes(start: Start, tmp_path: Path) -> None:
    program = start("""
r, w = os.pipe(); os.write(w, b"inside")
pair = socket.socketpair(); pair[0].send(b"queued")
epoll = select.epoll(); epoll.register(r); epoll.register(pair[1])
counter = os.eventfd(7)
memory = os.memfd_create("memory"); os.write(memory, b"content")
deleted = tempfile.TemporaryFile(dir="."); deleted.write(b"gone"); deleted.flush()
listening = socket.socket(); listening.bind(("127.0.0.1", 0)); listening.listen()
next_step()
os.write(w, b" and more")
next_step()
""")
    first, second = program.records(), program.records()
    assert first == second
    program.step()
    changed = [key for key, data in program.records().items() if first.get(key) != data]
    assert [key.partition("/")[0] for key in changed] == ["pipe"]


def test_a_file_open_for_writing_needs_a_rule(start: Start, tmp_path: Path) -> None:
    text = """
f = open("data", "w"); next_step()
"""
    program = start(text)
    with pytest.raises(Unsupported) as refused:
        program.records()
    assert str(tmp_path / "data") in refused.value.what
    assert "[[files]]" in refused.value.hint
    (reason,) = program.reasons()
    assert not reason.lost
    allowed = start(text, lambda path: "local" if path == str(tmp_path / "data") else None)
    assert allowed.reasons() == []
    records = allowed.records()
    (file,) = [unpack(File, data) for key, data in records.items() if key.startswith("ofd/file:") and b"data" in data]
    assert (file.path, file.treatment) == (str(tmp_path / "data"), "local")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("ctypes.CDLL(None).inotify_init()", "inotify"),
        ("s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)", "netlink"),
        ("s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)", "packet"),
        ("s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", "raw socket"),
        ("s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)", "multipath"),
        ("f = os.pidfd_open(os.getpid())", "pidfd"),
        ("m, s = pty.openpty()", "terminal"),
        ("os.mkfifo('fifo'); f = os.open('fifo', os.O_RDWR)", "named pipe"),
        ("f = os.open('/proc/self/ns/net', os.O_RDONLY)", "namespace"),
        ("r, w = os.pipe(); f = os.open(f'/proc/self/fd/{r}', os.O_RDWR)", "reading and writing"),
        (
            "a, b = socket.socketpair(); a.sendmsg([b'x'], [(1, 1, array.array('i', [0]))])",
            "sent over a unix socket and not received",
        ),
        ("f = os.memfd_create('m'); os.ftruncate(f, 1 << 30)", "1024 MiB; at most"),
        ("f = tempfile.TemporaryFile(dir='.'); os.ftruncate(f.fileno(), 1 << 30)", "1024 MiB; at most"),
    ],
)
def test_what_can_not_be_mirrored_is_named(text: str, what: str, start: Start) -> None:
    program = start(f"{text}\nnext_step()\n", lambda path: "local")
    reasons = [reason for reason in program.reasons() if not reason.lost]
    assert reasons
    assert all(what in str(reason) and reason.remedy for reason in reasons), reasons
    with pytest.raises(Unsupported, match=what):
        program.records()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("r, w = os.pipe(); a, b = socket.socketpair(); os.close(w)", None),
        (
            "r, w = os.pipe()\nif not os.fork():\n os.close(w); os.read(0, 1); os._exit(0)\nos.close(r)",
            "a pipe whose other end is outside",
        ),
        (
            "a, b = socket.socketpair()\nif not os.fork():\n a.close(); os.read(0, 1); os._exit(0)\nb.close()",
            "a unix socket connected to another process",
        ),
        (
            "new = lambda: socket.socket(socket.AF_UNIX)\ns, c = new(), new(); s.bind('s'); s.listen(); c.connect('s')",
            "wait to be accepted",
        ),
    ],
)
def test_what_a_takeover_loses_is_named_and_does_not_stand_in_the_way(
    text: str, what: str | None, start: Start
) -> None:
    program = start(f"{text}\nnext_step()\n")
    reasons = program.reasons()
    assert all(reason.lost for reason in reasons)
    assert [what in reason.what for reason in reasons] == ([True] if what else []) if what else reasons == []
    program.records()


def test_an_epoll_entry_follows_its_description_not_its_number(start: Start) -> None:
    program = start("""
counter, other = os.eventfd(0), os.eventfd(0)
registered = os.dup(counter)
epoll = select.epoll(); epoll.register(registered, select.EPOLLIN | select.EPOLLET)
os.dup2(counter, 70)
os.dup2(epoll.fileno(), 80)
os.dup2(other, registered)
next_step()
os.close(counter); os.close(70)
next_step()
""")
    ((number, events, _, key),) = unpack(Epoll, program.records()["ofd/" + program.key(80)]).entries
    assert key == program.key(70)
    assert key != program.key(number)
    assert events & 0x80000000
    program.step()  # the description is gone, and the entry with it
    assert unpack(Epoll, program.records()["ofd/" + program.key(80)]).entries == ()


def test_queues_of_unix_sockets_keep_their_messages(start: Start) -> None:
    program = start("""
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
a.send(b"one"); a.send(b""); a.send(b"three")
os.dup2(b.fileno(), 60)
next_step()
assert [b.recv(9) for _ in range(3)] == [b"one", b"", b"three"]
next_step()
""")
    for _ in range(3):
        assert unpack(Unix, program.records()["ofd/" + program.key(60)]).content == (b"one", b"", b"three")
    program.step()
    assert unpack(Unix, program.records()["ofd/" + program.key(60)]).content == ()


def test_only_pieces_of_a_nameless_file_that_changed_travel(start: Start) -> None:
    program = start("""
f = tempfile.TemporaryFile(dir="."); f.write(b"x" * 1000000); f.flush(); next_step()
os.pwrite(f.fileno(), b"y", 500000); next_step()
os.ftruncate(f.fileno(), 10); next_step()
""")
    first = program.records()
    assert len([key for key in first if key.startswith("content/")]) == 8
    program.step()
    second = program.records()
    assert [key for key in second if key.startswith("content/") and second[key] != first[key]] == [
        key for key in second if key.startswith("content/") and key.endswith("/3")
    ]
    program.step()
    assert [data for key, data in program.records().items() if key.startswith("content/")] == [b"x" * 10]


def test_a_running_timer_does_not_change_its_record(start: Start) -> None:
    program = start("""
libc = ctypes.CDLL(None)
timer = libc.timerfd_create(1, 0)
libc.timerfd_settime(timer, 0, (ctypes.c_long * 4)(0, 0, 5000, 0), None)
next_step()
""")
    seen = {tuple(sorted(program.records().items())) for _ in range(5)}
    assert len(seen) == 1


def test_a_dying_program_is_read_as_a_living_one(start: Start) -> None:
    program = start("""
r, w = os.pipe(); os.write(w, b"inside")
pair = socket.socketpair(); pair[0].send(b"queued")
epoll = select.epoll(); epoll.register(r); os.dup2(r, 40); epoll.register(40)
memory = os.memfd_create("memory"); os.write(memory, b"content")
next_step()
""")
    alive = program.records()
    with held_at_its_end(program.process.pid):
        dying = program.records(dying=True)
    assert {key for key in alive if alive[key] != dying.get(key)} == set()
    assert set(alive) == set(dying)


def test_a_program_that_is_gone_is_a_capture_error(start: Start) -> None:
    program = start("next_step()")
    program.process.kill()
    program.process.wait()
    with pytest.raises(CaptureError):
        program.records()


def test_a_capture_gives_back_all_that_it_held(start: Start) -> None:
    program = start("keep = [os.pipe() for _ in range(20)]\nnext_step()\ndel keep\nnext_step()\n")
    before = len(os.listdir("/proc/self/fd"))
    capture = DescriptorCapture(program.process.pid, no_rule)
    capture.capture(program.stopped())
    capture.capture(program.stopped())
    capture.close()
    assert len(os.listdir("/proc/self/fd")) == before


_AT_RANDOM = """
import random
chance, open_numbers = random.Random(int("SEED")), []
epoll = select.epoll()
def numbers():
    return [number for number in open_numbers if number is not None]
def open_one():
    kind = chance.randrange(5)
    if kind == 0:
        open_numbers.extend(one.detach() for one in socket.socketpair())
    elif kind == 1:
        one = socket.socket(); one.bind(("127.0.0.1", 0)); one.listen(); open_numbers.append(one.detach())
    elif kind == 2:
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); one.bind(("127.0.0.1", 0))
        open_numbers.append(one.detach())
    elif kind == 3:
        open_numbers.append(os.open("/etc/passwd", os.O_RDONLY))
    else:
        open_numbers.append(socket.socket().detach())
def do_one():
    what, of = chance.randrange(7), numbers()
    if what < 2 or len(of) < 4:
        open_one()
    elif what == 2:
        gone = chance.choice(of); os.close(gone); open_numbers.remove(gone)
    elif what == 3:
        copy = os.dup(chance.choice(of)); open_numbers.append(copy)
    elif what == 4:
        one, other = chance.sample(of, 2); os.dup2(one, other)
    elif what == 5:
        number = chance.choice(of)
        fcntl.fcntl(number, fcntl.F_SETFL, fcntl.fcntl(number, fcntl.F_GETFL) ^ os.O_NONBLOCK)
    else:
        number = chance.choice(of)
        try:
            epoll.register(number, select.EPOLLIN)
        except OSError:
            pass
while True:
    next_step()
    for _ in range(chance.randrange(4)):
        do_one()
"""


@pytest.mark.parametrize("seed", range(4))
def test_what_is_followed_is_what_a_fresh_look_finds(seed: int, start: Start) -> None:
    program = start(_AT_RANDOM.replace("SEED", str(seed)))
    for step in range(60):
        fresh = DescriptorCapture(program.process.pid, no_rule)
        try:
            expected = fresh.capture(program.stopped())
        finally:
            fresh.close()
        assert program.records() == expected, f"seed {seed}, step {step}"
        program.step()
