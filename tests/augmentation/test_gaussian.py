import torch

from adain.augmentation.gaussian import fit


def test_the_components_reproduce_the_covariance():
    vectors = torch.randn(50, 4) @ torch.randn(4, 4) + 3
    gaussian = fit(vectors, explained=1)
    torch.testing.assert_close(gaussian.components.T @ gaussian.components, vectors.T.cov())
    torch.testing.assert_close(gaussian.mean, vectors.mean(0))


def test_few_components_explain_vectors_on_a_line():
    vectors = torch.linspace(-1, 1, 20)[:, None] * torch.tensor([3.0, 4.0, 0.0]) + 1e-3 * torch.randn(20, 3)
    gaussian = fit(vectors)
    assert gaussian.components.shape == (1, 3)
    direction = gaussian.components[0] / gaussian.components[0].norm()
    torch.testing.assert_close(direction.abs(), torch.tensor([0.6, 0.8, 0.0]), atol=1e-3, rtol=0)


def test_draws_have_the_moments_of_the_vectors_and_stay_in_their_range():
    vectors = torch.rand(1000, 3) * torch.tensor([1.0, 2.0, 4.0])
    drawn = fit(vectors, explained=1).draw(20000)
    torch.testing.assert_close(drawn.mean(0), vectors.mean(0), atol=0.05, rtol=0)
    # Clamping to the range of a uniform distribution narrows the deviations by a few percent.
    torch.testing.assert_close(drawn.std(0), vectors.std(0), atol=0, rtol=0.15)
    assert (drawn >= vectors.amin(0)).all()
    assert (drawn <= vectors.amax(0)).all()


def test_equal_vectors_give_themselves():
    for count in (1, 3):
        drawn = fit(torch.tensor([[1.0, 2.0]]).expand(count, 2)).draw(5)
        torch.testing.assert_close(drawn, torch.tensor([[1.0, 2.0]]).expand(5, 2))
