import torch

from adain.training.muon import Muon, orthogonalize


def test_muon_orthogonalizes_its_updates():
    for shape in ((8, 20), (20, 8), (16, 16)):
        singular = torch.linalg.svdvals(orthogonalize(torch.randn(shape)))
        assert singular.min() > 0.3
        assert singular.max() < 1.3


def test_muon_learns_an_ill_conditioned_map():
    inputs = torch.randn(256, 16) + 5  # the mean dominates, as in features after a ReLU
    target = inputs @ torch.randn(16, 4)
    net = torch.nn.Linear(16, 4)
    optimizer = Muon(net.parameters(), lr=0.3)
    losses = []
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.3 * (1 - step / 200)
        loss = torch.nn.functional.mse_loss(net(inputs), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 1e-3 * losses[0]


def test_muon_orthogonalizes_like_the_iteration_on_the_matrix_itself():
    for shape in ((8, 40), (40, 8), (16, 16)):
        matrix = torch.randn(shape)
        x = matrix / matrix.norm()
        for _ in range(5):
            gram = x @ x.T
            x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
        torch.testing.assert_close(orthogonalize(matrix), x, atol=1e-4, rtol=0)
