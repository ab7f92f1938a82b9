"""The presets as variants of the benchmark."""

import pytest

from adain.methods.gatys import Gatys
from benchmarks.experiments import ROOT
from benchmarks.presets import read_preset

PRESETS = sorted((ROOT / "configs" / "presets").glob("*.yaml"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_read_with_its_numbers(path):
    variant = read_preset(path)
    assert (variant.label, variant.method, variant.size) == (path.stem, "gatys", 256)
    assert Gatys(**variant.settings).coarsest == 0


def test_sizes_and_exponents_are_numbers():
    variant = read_preset(ROOT / "configs" / "presets" / "gatys-2016.yaml")
    assert variant.options.style_size == 256
    assert variant.settings["style_weight"] == 1e7
