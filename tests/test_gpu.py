"""What only a CUDA device can show: `make test-slow` runs it where there is one."""

import pytest
import torch

import adain
from benchmarks import gpu
from tests.conftest import exit_code, picture_folders
from tests.training.test_module import state

pytestmark = pytest.mark.gpu


def image(height, width, seed):
    """A smooth image."""
    small = torch.rand(1, 3, 9, 12, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(small, (height, width), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize("precision", ["fp32", "auto"])
@pytest.mark.parametrize("name", ["adain", "adain-lite", "adaconv", "johnson"])
def test_results_are_those_of_the_cpu(name, precision):
    """Within 1/255 on average: float32 convolutions on CUDA use TF32."""
    content, styles = image(200, 280, 0), [] if name == "johnson" else [image(160, 160, 1)]
    expected = adain.stylize(content, *styles, method=name, device="cpu", precision="fp32")
    found = adain.stylize(content, *styles, method=name, device="cuda", precision=precision).cpu()
    assert found.shape == expected.shape
    assert (found - expected).abs().mean() < 1 / 255


@pytest.fixture
def two_gib():
    """A limit on the memory of this process on the device."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 2**31 / total))
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def test_out_of_memory_falls_back_to_tiles(two_gib, caplog):
    """3000 x 2000 pixels take about 6 GB in float32."""
    ready = adain.prepare("adain", "cuda", "fp32")
    content, code = image(2000, 3000, 0), adain.encode_style(ready, image(256, 256, 1))
    found = adain.stylize(content, code, ready, work_size="content")
    assert "Out of memory; trying again with tiles of" in caplog.text
    expected = adain.stylize(content, code, ready, work_size="content", tile=256)
    assert (found - expected).abs().mean() < 0.5 / 255


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
@pytest.mark.filterwarnings("ignore")  # Lightning's advice
def test_a_run_of_two_steps_and_its_continuation(optimizer, tmp_path):
    content, style = picture_folders(tmp_path, 6)
    words = ["--model.method", "AdaIN", "--model.optimizer", optimizer, "--model.loss.reconstruction_weight", 1]
    words += ["--data.content", content, "--data.style", style, "--data.size", "[40,44]", "--data.crop", 32]
    words += ["--data.batch_size", 4, "--data.val_pairs", 2, "--data.workers", 2, "--trainer.val_check_interval", 1]
    words += ["--trainer.accelerator", "gpu", "--trainer.devices", 1, "--trainer.default_root_dir", tmp_path / "runs"]
    words += ["--trainer.enable_progress_bar", "false", "--ckpt_path", "last", "--trainer.max_steps"]
    weights = []
    for steps in (2, 3):
        assert exit_code("train", "fit", *words, steps) == 0
        checkpoint = max((tmp_path / "runs").rglob("last.ckpt"), key=lambda path: path.stat().st_mtime_ns)
        assert state(checkpoint)["global_step"] == steps
        weights.append(state(checkpoint)["state_dict"]["method.decoder.conv1.weight"])
    assert all(each.isfinite().all() for each in weights)
    assert not torch.equal(*weights)


@pytest.mark.filterwarnings("ignore")
def test_the_benchmark_runs_at_toy_size(capsys):
    gpu.main(["--toy", "--device", "cuda", "--workers", "1"])
    assert "stylizing, images/s" in capsys.readouterr().out
