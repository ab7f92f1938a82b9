import torch

from adain import ops


def test_mean_std_of_known_channels():
    features = torch.tensor([[1.0, 3.0], [5.0, 7.0]]).expand(1, 2, 2, 2)
    mean, std = ops.mean_std(features, eps=0)
    assert mean.flatten().tolist() == [4, 4]
    torch.testing.assert_close(std.flatten(), torch.full((2,), 5.0).sqrt())


def test_mean_std_gradient_against_finite_differences():
    features = torch.rand(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ops.mean_std, features)


def test_mean_std_keeps_its_gradient_in_flat_half_precision_channels():
    exact = (torch.rand(1, 4, 16, 16) * 0.02 + 1).bfloat16().double().requires_grad_()
    half = exact.detach().bfloat16().requires_grad_()
    for features in (exact, half):
        ops.mean_std(features)[1].sum().backward()
    error = (half.grad - exact.grad).norm() / exact.grad.norm()
    assert error < 0.01


def test_statistics_are_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        mean, std = ops.mean_std(torch.rand(1, 2, 8, 8).bfloat16())
    assert mean.dtype == std.dtype == torch.float32


def test_adain_takes_on_the_statistics_of_the_style():
    content, style = torch.randn(2, 8, 32, 32) * 3 + 1, torch.randn(2, 8, 16, 24) * 0.5 - 2
    mean, std = ops.mean_std(style)
    result_mean, result_std = ops.mean_std(ops.adain(content, mean, std))
    torch.testing.assert_close(result_mean, mean, atol=1e-4, rtol=0)
    torch.testing.assert_close(result_std, std, atol=1e-4, rtol=0)


def test_adain_with_the_content_as_style_is_the_identity():
    content = torch.randn(1, 4, 9, 7)
    torch.testing.assert_close(ops.adain(content, *ops.mean_std(content)), content, atol=1e-5, rtol=1e-5)


def test_adain_turns_a_dead_channel_into_the_mean_of_the_style():
    content = torch.full((1, 1, 8, 8), 7.0)
    result = ops.adain(content, torch.tensor(3.0).view(1, 1, 1, 1), torch.tensor(2.0).view(1, 1, 1, 1))
    torch.testing.assert_close(result, torch.full_like(content, 3.0))


def test_adain_keeps_the_type_of_the_content():
    content = torch.rand(1, 2, 4, 4).bfloat16()
    assert ops.adain(content, *ops.mean_std(content)).dtype == torch.bfloat16


def test_gram_by_hand_and_in_float32_under_autocast():
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 2, 1, 2)  # two channels, two pixels
    with torch.autocast("cpu", torch.bfloat16):
        result = ops.gram(features.bfloat16())
    torch.testing.assert_close(result, torch.tensor([[[5.0, 11.0], [11.0, 25.0]]]) / 4)
