"""A Python service whose garbage is cyclic, so that only the collector frees it: memory is a saw-tooth.

usage: gc.py KEEP_KIB_PER_S SECONDS [GARBAGE_KIB_PER_S]

Each request makes a cycle that holds a buffer (garbage until the next collection) and, where KEEP_KIB_PER_S > 0,
keeps a little of it for ever: the floors of the saw-tooth rise.
"""

import gc
import mmap
import random
import sys
import time

keep_kib, seconds = float(sys.argv[1]), float(sys.argv[2])
garbage_kib = float(sys.argv[3]) if len(sys.argv) > 3 else 4096.0

PER_SECOND = 20
# Collections of the oldest generation come every THRESHOLD_0 * THRESHOLD_1 * THRESHOLD_2 container allocations;
# a request makes few of those, so collect youngest only every 200 of them.
gc.set_threshold(200, 1, 1)


class Request:
    """Refers to itself: reference counting never frees it."""

    def __init__(self, kib):
        self.me = self
        # A map of its own, as large buffers of numpy or Arrow are: what is collected goes back to the kernel.
        self.body = mmap.mmap(-1, int(kib * 1024))
        self.body.write(b"x" * int(kib * 1024))


random.seed(7)
kept = []
start = time.monotonic()
while time.monotonic() - start < seconds:
    Request(garbage_kib / PER_SECOND * random.uniform(0.8, 1.2))
    if keep_kib > 0:
        kept.append(bytearray(b"k" * int(keep_kib * 1024 / PER_SECOND * random.uniform(0.5, 1.5))))
    time.sleep(1 / PER_SECOND)
