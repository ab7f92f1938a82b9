"""How long threads of OpenMP wait for each other at full load."""

import os

SPINS = 10_000
"""Iterations of GNU OpenMP's busy wait (default: 300,000): enough for the time between two operations of a network."""


def limit_spinning() -> None:
    """Let threads sleep after a short wait, unless the environment says otherwise. Call it before torch is imported.

    Where other programs use all cores, threads that wait actively keep those that they wait for from running,
    and Winograd's algorithm, which has thousands of short operations, becomes many times slower.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
