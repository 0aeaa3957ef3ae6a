"""Maps, grows, shrinks and drops memory from several threads, for ever. argv: number of threads."""

import mmap
import os
import random
import sys
import threading
import time


def churn(seed: int) -> None:
    """One thread's work; some of it is handed to threads that live only for that."""
    dice = random.Random(seed)
    held: dict[int, bytes] = {}
    mapped: list[mmap.mmap] = []
    while True:
        time.sleep(0.001)
        held[dice.randrange(300)] = os.urandom(dice.choice([10, 100, 5000, 20000, 300000]))
        if dice.random() < 0.3:
            memory = mmap.mmap(-1, dice.randrange(1, 400) * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            memory[dice.randrange(len(memory))] = 7
            mapped.append(memory)
            if len(mapped) > 20:
                mapped.pop(dice.randrange(20)).close()
        if mapped and dice.random() < 0.3:
            dice.choice(mapped).madvise(mmap.MADV_DONTNEED)
        if mapped and dice.random() < 0.1:
            memory = dice.choice(mapped)
            memory.resize(len(memory) + 4096 * dice.randrange(1, 50))
            memory[-1] = 3
        if dice.random() < 0.02:
            threading.Thread(target=os.urandom, args=(100000,)).start()


for number in range(int(sys.argv[1])):
    threading.Thread(target=churn, args=(number,), daemon=True).start()
print("ready", flush=True)
threading.Event().wait()
