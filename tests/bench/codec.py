"""Size and speed of what travels: real pages of a redis-server, as XOR against an older state and whole.

Starts a redis-server of its own on a Unix socket, fills it, reads its memory, writes to it as a client load would, and
reads it again. Prints a line for each codec; `--json` one JSON object instead.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from transport.checkpoint import PAGE_BYTES, PAGE_WORDS, PART_PAGES
from transport.delta import Codec, PagePartDecoder, PagePartEncoder, Words

KEYS = 400_000
WRITES = 20_000
ROUNDS = 3


@contextmanager
def _redis() -> Iterator[tuple[int, socket.socket]]:
    """Run a redis-server that listens on a Unix socket only; yield its pid and a connection."""
    with tempfile.TemporaryDirectory(prefix="kgm-bench") as directory:
        path = Path(directory) / "redis"
        command = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", directory]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            if process.stdout is None or not any(b"eady to accept" in line for line in process.stdout):
                raise SystemExit("redis-server did not start")
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
                yield process.pid, connection
        finally:
            process.kill()
            process.communicate()


def _set(connection: socket.socket, keys: list[int], seed: int) -> None:
    """Write a value of 100 random letters to each key, in pipelines of a thousand."""
    rng = random.Random(seed)
    for at in range(0, len(keys), 1000):
        some = keys[at : at + 1000]
        connection.sendall(b"".join(b"SET key:%08d %s\r\n" % (key, rng.randbytes(50).hex().encode()) for key in some))
        answer = b""
        while answer.count(b"\n") < len(some):
            answer += connection.recv(1 << 16)


def _memory(pid: int) -> dict[int, np.ndarray[Any, np.dtype[np.uint64]]]:
    """Return all private writable memory: first page number -> u64[n, 512]."""
    result = {}
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, permissions, _, _, inode = line.split()[:5]
            start, end = (int(number, 16) for number in place.split("-"))
            if permissions == "rw-p" and inode == "0":
                data = os.pread(memory.fileno(), end - start, start)
                result[start // PAGE_BYTES] = np.frombuffer(data, np.uint64).reshape(-1, PAGE_WORDS)
    return result


def _samples() -> tuple[Words, Words, Words]:
    """Return page numbers, contents before and contents after of the pages that a burst of writes changed."""
    with _redis() as (pid, connection):
        _set(connection, list(range(KEYS)), seed=1)
        before = _memory(pid)
        _set(connection, random.Random(2).sample(range(KEYS), WRITES), seed=3)
        after = _memory(pid)
    pages, old, new = [], [], []
    for start, rows in sorted(after.items()):
        if start in before and before[start].shape == rows.shape:
            changed = np.flatnonzero((before[start] != rows).any(axis=1))
            pages.append(changed.astype(np.uint64) + np.uint64(start))
            old.append(before[start][changed])
            new.append(rows[changed])
    return np.concatenate(pages), np.concatenate(old), np.concatenate(new)


def _measure(codec: Codec, pages: Words, base: Words | None, new: Words) -> dict[str, float]:
    """Encode and decode everything in full parts; return ratio and GB/s of page contents (the best of some rounds)."""
    encoder, decoder = PagePartEncoder(codec), PagePartDecoder()
    scratch = np.zeros((PART_PAGES, PAGE_WORDS), np.uint64)
    fresh = np.zeros(PART_PAGES, np.bool_)
    slices = [slice(at, at + PART_PAGES) for at in range(0, len(pages) - PART_PAGES + 1, PART_PAGES)]
    encode_s, decode_s, packed = [], [], 0
    for _ in range(ROUNDS):
        began = time.process_time()
        parts = [
            encoder.encode(pages[s], None if base is None else base[s], new[s], None if base is None else fresh)
            for s in slices
        ]
        middle = time.process_time()
        for part, where in zip(parts, slices, strict=True):
            if base is not None:
                np.copyto(scratch, base[where])
            decoder.decode(part).resolve(None if base is None else scratch, scratch)
        encode_s.append(middle - began)
        decode_s.append(time.process_time() - middle)
        packed = sum(map(len, parts))
    size = len(slices) * PART_PAGES * PAGE_BYTES
    return {
        "ratio": round(size / packed, 1),
        "encode_gb_per_s": round(size / min(encode_s) / 1e9, 2),
        "decode_gb_per_s": round(size / min(decode_s) / 1e9, 2),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    pages, old, new = _samples()
    words = float((old != new).sum()) / len(pages)
    result: dict[str, Any] = {"pages": len(pages), "changed_words_per_page": round(words, 1), "results": []}
    for what, base in (("xor", old), ("whole", None)):
        for codec in ("zstd", "lz4"):
            result["results"].append({"what": what, "codec": codec} | _measure(codec, pages, base, new))
    if arguments.json:
        sys.stdout.write(json.dumps(result) + "\n")
        return
    sys.stdout.write(f"{len(pages)} changed pages of a redis-server, {words:.1f} changed words in each\n")
    for row in result["results"]:
        sys.stdout.write(
            f"{row['what']:>6} {row['codec']:<5} {row['ratio']:>7}x  "
            f"encode {row['encode_gb_per_s']:>5} GB/s  decode {row['decode_gb_per_s']:>5} GB/s\n"
        )


if __name__ == "__main__":
    main()
