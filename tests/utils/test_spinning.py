"""How long threads wait actively."""

import os
import subprocess
import sys

import pytest

from adain.utils.spinning import limit_spinning
from tests.conftest import ROOT


def test_waiting_threads_sleep_soon_unless_the_environment_says_otherwise(monkeypatch):
    for environment, expected in (
        ({}, "10000"),
        ({"GOMP_SPINCOUNT": "5"}, "5"),
        ({"OMP_WAIT_POLICY": "active"}, None),
    ):
        for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        limit_spinning()
        assert os.environ.get("GOMP_SPINCOUNT") == expected


@pytest.mark.parametrize("command", ["main(['stylize'])", "main(['train'])", "train([])"])
def test_the_limit_is_set_before_torch_is_imported(command):
    code = f"""
import sys
from adain.cli import main as cli

def stop():
    sys.exit("torch" if "torch" in sys.modules else "no torch")

cli.limit_spinning = stop
cli.{command}
"""
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert process.stderr == "no torch\n"
