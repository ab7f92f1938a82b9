"""The benchmark of the recipes measures a real run."""

import re

import pytest
import yaml

from benchmarks import recipes


@pytest.mark.slow
def test_it_prints_the_pairs_and_the_cost_of_a_recipe(capsys):
    small = ["--data.size", "[32,36]", "--data.crop", "32", "--data.batch_size", "2", "--data.workers", "0"]
    recipes.main(["adain", "--steps", "4", *small, "--trainer.accelerator", "cpu", "--trainer.precision", "32-true"])
    row = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"\| adain \| 320,000 \| [\d.]+ \| [\d.,]+ \| [\d.]+ \|", row), row


@pytest.mark.parametrize("path", sorted((recipes.ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_start_from_weights_that_exist(path):
    text = path.read_text()
    start = yaml.safe_load(text)["model"].get("start")
    needs_start = "--model.start" in text or bool(start and not (recipes.ROOT / start).is_file())
    assert ("--model.start" in recipes.OWN_FLAGS.get(path.stem, [])) == needs_start
