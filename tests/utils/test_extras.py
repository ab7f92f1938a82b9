"""Packages that are missing."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("script", ["infer.py", "train.py"])
def test_scripts_name_a_missing_dependency_in_one_line(script):
    without_packages = [sys.executable, "-I", "-S", "-c"]
    code = f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); runpy.run_path({str(ROOT / script)!r})"
    process = subprocess.run([*without_packages, code], capture_output=True, text=True)
    assert process.returncode == 2
    assert process.stderr.count("\n") == 1, process.stderr
    assert f"is not installed for {sys.executable}; run pip install . in the repository" in process.stderr
