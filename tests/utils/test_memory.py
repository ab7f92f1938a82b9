import platform
import subprocess
import sys

import pytest

from tests.conftest import ROOT

CODE = """
import numpy, psutil
from adain.utils import memory
memory.keep_freed()
def retained(size):
    block = numpy.ones(size, numpy.uint8)
    del block
    rss = psutil.Process().memory_info().rss
    return rss - memory.held()

print(retained(2**27), retained(2**29))
memory.return_freed()
print(retained(2**27))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_retained_up_to_a_limit_or_returned():
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True)
    retained, beyond_limit, with_memory_limit = map(int, done.stdout.split())
    assert retained > 0.9 * 2**27
    assert beyond_limit < 2**25
    assert with_memory_limit < 2**22
