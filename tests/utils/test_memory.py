import platform
import subprocess
import sys

import pytest

from tests.conftest import ROOT

CODE = """
import numpy, psutil
from adain.utils import memory
memory.keep_freed()
for size in (2**27, 2**29):
    block = numpy.ones(size, numpy.uint8)
    del block
    print(psutil.Process().memory_info().rss - memory.held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_retained_up_to_a_limit():
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True)
    retained, beyond = map(int, done.stdout.split())
    assert retained > 0.9 * 2**27
    assert beyond < 2**25
