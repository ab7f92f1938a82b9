import torch

from adain.training.batches import collate, make_sample


def test_a_batch_stacks_its_samples():
    samples = [
        {"content": torch.full((3, 2, 2), i), "style": torch.full((3, 2, 2), -i), "skipped": i, "position": i}
        for i in (1.0, 2.0, 3.0)
    ]
    batch = collate(samples, 2)
    assert batch["content"][:, 0, 0, 0].tolist() == [1, 2, 3]
    assert batch["style"][:, 0, 0, 0].tolist() == [-1, -2, -3]
    assert (batch["skipped"], batch["position"], batch["styles_per_content"]) == (6, 3, 2)
    alone = collate([{"content": torch.zeros(3, 2, 2), "skipped": 0}], 1)
    assert alone.keys() == {"content", "styles_per_content", "skipped"}
    assert make_sample([("c", 1), ("s", 2)]) == {"content": "c", "style": "s", "skipped": 3}
    assert make_sample([("c", 0)]) == {"content": "c", "skipped": 0}
