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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of GNU's C library")
def test_freed_memory_is_kept_up_to_a_limit_until_it_is_asked_for():
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True)
    kept, beyond = map(int, done.stdout.split())
    assert kept > 0.9 * 2**27
    assert beyond < 2**25
