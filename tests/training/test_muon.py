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


def test_muon_updates_vectors_and_large_matrices_by_adam():
    parameters = {"vector": torch.randn(5), "large": torch.randn(6, 7), "wide": torch.randn(5, 20)}
    for parameter in parameters.values():
        parameter.requires_grad_()
    twins = {name: parameter.detach().clone().requires_grad_() for name, parameter in parameters.items()}
    muon = Muon(parameters.values(), lr=0.1, adam_lr_ratio=0.2, betas=(0.9, 0.99), max_side=5)
    adam = torch.optim.Adam(twins.values(), lr=0.02, betas=(0.9, 0.99))
    for _ in range(3):
        for name, parameter in parameters.items():
            parameter.grad = torch.randn(parameter.shape)
            twins[name].grad = parameter.grad.clone()
        muon.step()
        adam.step()
    torch.testing.assert_close(parameters["vector"], twins["vector"])
    torch.testing.assert_close(parameters["large"], twins["large"])
    assert not torch.allclose(parameters["wide"], twins["wide"], atol=1e-2)
