import platform
import subprocess
import sys

import pytest

CODE = """
import resource, sys
import numpy as np
from pipeline.train.heap import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def maps():
    return [np.ones(n << 17) for n in (40, 50, 60)]  # 150 MB
maps()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    maps()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_that_was_freed_is_used_again_without_new_pages():
    faults = {
        how: int(subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, check=True).stdout)
        for how in ("given back", "kept")
    }
    assert faults["kept"] * 20 < faults["given back"]


def test_another_c_library_is_left_alone(monkeypatch):
    from pipeline.train.heap import keep_freed_memory

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
