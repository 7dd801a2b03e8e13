"""What a scorer does to its process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# malloc_info writes a `<heap nr=…>` for every heap.
PROGRAM = """
import ctypes, os, tempfile, threading
import numpy as np
from diet_ray.influence.scorer import share_one_heap

libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fclose.argtypes = [ctypes.c_void_p]

def num_heaps():
    with tempfile.TemporaryFile() as file:
        stream = libc.fdopen(os.dup(file.fileno()), b"w")
        libc.malloc_info(0, stream)
        libc.fclose(stream)
        file.seek(0)
        return file.read().count(b"<heap nr=")

def grown():
    before = num_heaps()
    together = threading.Barrier(8)
    def allocate():
        together.wait()
        np.ones(1000)
        together.wait()
    threads = [threading.Thread(target=allocate) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return num_heaps() - before

if {shared}:
    share_one_heap()
print(grown())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_threads_share_one_heap() -> None:
    def grown(shared: bool) -> int:
        program = PROGRAM.replace("{shared}", str(shared))
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    assert grown(False) > 0
    assert grown(True) == 0
