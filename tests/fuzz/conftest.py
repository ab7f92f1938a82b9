import os
import sys

import pytest
from hypothesis import HealthCheck, settings

from tests.fuzz.worker import Worker

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "500"))
"""Images that are tried; other inputs are fewer. `make fuzz` sets it."""


def examples(share=1.0):
    """Hypothesis settings for a share of `EXAMPLES`: the same inputs in each run."""
    return settings(
        max_examples=max(1, round(EXAMPLES * share)),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="session")
def worker():
    if sys.platform != "linux":
        pytest.skip("the process limits its memory as Linux allows")
    worker = Worker()
    yield worker
    worker.close()
