"""The stub executable, and what executables say of themselves."""

from __future__ import annotations

import os
import subprocess
import sys

from agent.kernel import elf, procfs


def test_the_stub_runs_and_does_nothing() -> None:
    descriptor = elf.executable_memfd("kgm-test", elf.stub_executable())
    try:
        process = subprocess.Popen(["stub"], executable=f"/proc/self/fd/{descriptor}", pass_fds=[descriptor])
    finally:
        os.close(descriptor)
    try:
        while procfs.stat(process.pid).state != "S":
            os.sched_yield()
        assert process.poll() is None
        assert not any(mapping.name == "[heap]" for mapping in procfs.mappings(process.pid))
    finally:
        process.kill()
        process.wait()


def test_any_code_can_be_its_code() -> None:
    # mov edi, 7; mov eax, exit; syscall
    descriptor = elf.executable_memfd("kgm-test", elf.stub_executable(bytes.fromhex("bf07000000b83c0000000f05")))
    try:
        assert subprocess.call(["stub"], executable=f"/proc/self/fd/{descriptor}", pass_fds=[descriptor]) == 7
    finally:
        os.close(descriptor)


def test_executables_are_recognised() -> None:
    with open(sys.executable, "rb") as file:
        head = file.read(64)
    assert elf.word_size(head) == 64
    assert elf.machine(head) == elf.EM_X86_64
    assert elf.interpreter(head) is None
    assert elf.word_size(b"\x7fELF\x01") == 32
    assert elf.word_size(b"#!/bin/sh\n") is elf.machine(b"") is None
    assert elf.interpreter(b"#! /usr/bin/env python3\n") == "/usr/bin/env"
    assert elf.interpreter(b"#!\n") is None
