"""The spawner's helper: a small process that makes the agent's children, so that no big agent is ever copied.

It is a child of the agent, has one thread, imports little and holds nothing. With CLONE_PARENT its own children become
children of the agent. It ends when the agent's end of the socket is closed.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import NoReturn

from agent.errors import KernelError, TraceeGone
from agent.kernel import elf, namespaces, pidfd
from agent.kernel.clone import CLONE_NEWPID, CLONE_PARENT, clone3
from agent.launch.birth import Birth
from agent.launch.mending import mend
from agent.launch.spawn_request import NO_NAMESPACE, Reply, Request

_FAILED = 127
_ERRNO = struct.Struct("<i")


def main(descriptor: int) -> None:
    """Serve the agent at the other end of `descriptor` until it closes it."""
    os.set_inheritable(descriptor, False)
    own_offsets = namespaces.time_offsets()
    stub = elf.executable_memfd("kgm-stub", elf.stub_executable())
    programs = []
    with socket.socket(fileno=descriptor) as connection, connection.makefile("rwb") as stream:
        while line := stream.readline():
            request = Request.decode(line)
            reply = Reply(request.number) if request.kind == "mind" else _make(request, stub, own_offsets)
            stream.write(reply.encode())
            stream.flush()
            if reply.pid and request.kind != "init":
                programs.append(reply.pid)
    for pid in programs:
        with suppress(KernelError, TraceeGone, OSError):  # it is gone, too
            if what := mend(pid, all_of_them=False):
                sys.stderr.write(f"process {pid}: {what}\n")


def _make(request: Request, stub: int, own_offsets: namespaces.TimeOffsets) -> Reply:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    with open(reading, "rb", buffering=0) as failures:
        try:
            pid = _clone(request, own_offsets, partial(_become, request, stub, writing))
        except KernelError as error:
            return Reply(0, error.operation, error.errno)
        finally:
            os.close(writing)
        # Empty, once the exec has closed the other end.
        failure = failures.readall() or b""
    if not failure:
        return Reply(pid)
    return Reply(pid, failure[_ERRNO.size :].decode(), *_ERRNO.unpack_from(failure))


def _clone(request: Request, own_offsets: namespaces.TimeOffsets, become: Callable[[], NoReturn]) -> int:
    """Make the new process in its namespaces, where it will `become`; gives its pid."""
    if request.kind == "init":
        return clone3(CLONE_PARENT | CLONE_NEWPID, exit_signal=0) or become()
    if request.init == NO_NAMESPACE:
        return clone3(CLONE_PARENT, exit_signal=0) or become()
    offsets = own_offsets if request.offsets is None else namespaces.TimeOffsets(*request.offsets)
    # Children are born into the time namespace that was made for the one before them, unless there is a new one.
    if offsets != namespaces.time_offsets():
        namespaces.unshare(namespaces.TIME)
        namespaces.set_time_offsets(offsets)
    with ExitStack() as scope:
        init = pidfd.open_pidfd(request.init)
        scope.callback(os.close, init)
        scope.enter_context(namespaces.children_in_pid_namespace(init))
        return clone3(CLONE_PARENT, set_tid=[request.number], exit_signal=0) or become()


def _become(request: Request, stub: int, status: int) -> NoReturn:
    """In the new process: be what was asked for, or say why not through `status`. Never returns."""
    birth = Birth()
    try:
        if request.kind == "program" and request.launch is not None:
            birth.program(request.launch)
        else:
            birth.stub(stub, request)
    except (OSError, KernelError, ValueError) as error:
        os.write(status, _ERRNO.pack(getattr(error, "errno", 0) or 0) + birth.stage.encode())
    finally:
        os._exit(_FAILED)
