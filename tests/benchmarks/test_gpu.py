"""The benchmark for GPUs runs on the CPU at toy size."""

import re

import pytest
import torch

from benchmarks import gpu


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Lightning's advice
def test_it_prints_a_rate_for_every_contestant(capsys):
    gpu.main(["--toy", "--device", "cpu", "--workers", "0"])
    output = capsys.readouterr().out
    rows = re.findall(r"^\| ((?:adain|textbook)[^|]*) \|(.*)\|$", output, re.MULTILINE)
    names = [name for name, _ in rows]
    assert sum(name.startswith("adain") for name in names) == 4
    assert sum(name.startswith("textbook") for name in names) in (3, 4), "one more where the hardware computes in bf16"
    for name, cells in rows:
        for cell in cells.split("|"):
            assert float(cell.strip().rstrip("%")) >= 0, name


def test_a_pair_takes_the_operations_of_its_convolutions():
    """Three encodings, one decoding, and the gradients of the decoder and of the encoder behind it."""
    operations = gpu.count_operations(gpu.Machine(torch.device("cpu"), gpu.TOY), 32)
    assert operations / 32**2 * 256**2 == pytest.approx(221e9, rel=0.02)
