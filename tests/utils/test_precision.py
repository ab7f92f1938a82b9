import logging
from pathlib import Path

import pytest
import torch
import yaml

import adain
from adain.training.cli import AutoTrainer
from adain.utils import precision
from adain.utils.precision import fast_half, is_emulated
from tests.conftest import ROOT

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))


@pytest.fixture
def hardware(monkeypatch):
    """Pretend to have a CPU with these features, of AMD or Intel, or a GPU with or without bf16."""

    def pretend(features=(), gpu_has_bf16=False, intel=False):
        monkeypatch.setattr(precision, "_cpu_has", lambda *names: any(name in features for name in names))
        monkeypatch.setattr(precision, "_is_intel", lambda: intel)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: gpu_has_bf16)

    return pretend


def test_the_fast_type_of_each_kind_of_hardware(hardware):
    hardware()
    assert [fast_half(device) for device in (CPU, CUDA, MPS)] == [None, "fp16", None]
    for feature in ("avx512_bf16", "amx_tile"):
        hardware([feature], gpu_has_bf16=True)
        assert [fast_half(device) for device in (CPU, CUDA, MPS)] == ["bf16", "bf16", None]


def test_intel_processors_are_fast_in_bf16_only_with_amx(hardware):
    hardware(["avx512_bf16"], intel=True)
    assert fast_half(CPU) is None
    assert not is_emulated("bf16", CPU)
    hardware(["avx512_bf16", "amx_tile"], intel=True)
    assert fast_half(CPU) == "bf16"


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="expected Linux")
@pytest.mark.skipif(not hasattr(torch.cpu, "get_capabilities"), reason="expected a torch that names the processor")
def test_the_maker_of_this_processor():
    assert precision._is_intel() == ("GenuineIntel" in Path("/proc/cpuinfo").read_text())


def test_torch_has_the_private_functions():
    """`_cpu_has` relies on names that torch does not document."""
    for feature in ("avx512_bf16", "amx_tile", "amx_fp16"):
        assert isinstance(getattr(torch.cpu, f"_is_{feature}_supported")(), bool)
    assert not precision._cpu_has("no_such_feature")


def test_what_is_emulated(hardware):
    hardware()
    assert is_emulated("bf16", CPU)
    assert is_emulated("fp16", CPU)
    assert is_emulated("bf16", CUDA)
    assert not is_emulated("fp16", CUDA)
    assert not is_emulated("bf16", MPS)
    hardware(["avx512_bf16"], gpu_has_bf16=True)
    assert not is_emulated("bf16", CPU)
    assert not is_emulated("bf16", CUDA)
    assert is_emulated("fp16", CPU)


@pytest.mark.parametrize(("features", "chosen"), [((), "32-true"), (("avx512_bf16",), "bf16-mixed")])
def test_training_takes_the_fast_type_by_default(features, chosen, hardware):
    hardware(features)
    quiet = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    assert AutoTrainer(**quiet).precision == chosen
    assert AutoTrainer(precision="64-true", **quiet).precision == "64-true"


def test_emulation_is_warned_of_once(hardware, caplog):
    hardware()
    with caplog.at_level(logging.WARNING, "adain"):
        adain.prepare("adain-lite", "cpu", "fp32")
        assert not caplog.records
        adain.prepare("adain-lite", "cpu", "bf16")
        AutoTrainer(accelerator="cpu", precision="bf16-mixed", logger=False, enable_checkpointing=False)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert all("processor emulates bf16" in record.message for record in caplog.records)


def test_no_configuration_pins_a_precision():
    for path in (ROOT / "configs").glob("*.yaml"):
        assert "precision" not in yaml.safe_load(path.read_text()).get("trainer", {}), path.name


@pytest.mark.parametrize(("name", "expected"), [("Intel(R) Xeon(R)", True), ("AMD EPYC", False), ("", False)])
def test_the_maker_of_a_processor_is_known_by_its_name(name, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": name}, raising=False)
    assert precision._is_intel() == expected
