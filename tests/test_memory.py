"""A process that keeps its memory gets large arrays without new pages."""

import subprocess
import sys

import pytest

PAGES = """
import resource, sys
import numpy as np
from pipeline import memory
if sys.argv[1] == "keep":
    memory.keep_freed()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(2):
    before = faults()
    for _ in range(50):
        np.ones(12 << 20)  # 96 MB
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator alone is told anything")
def test_a_large_array_takes_the_place_of_the_one_before():
    kept, usual = (
        int(subprocess.run([sys.executable, "-c", PAGES, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "usual")
    )
    assert kept < 100 < usual
