from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from adain.evaluation import flicker, metrics, synthetic_clips
from adain.imaging import reader
from adain.inference import pipeline, style_encoding
from adain.video import runner, temporal
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def moving():
    return clip(96)


def clip(side):
    photo, figure = (reader.load_image(ROOT / "examples" / "content" / name) for name in ("chelsea.png", "rocket.jpg"))
    return list(synthetic_clips.generate(photo, figure, 12, side))


# Metrics.


def test_the_warping_error_along_the_true_flow_is_zero_and_otherwise_as_computed_by_hand():
    before = torch.rand(1, 3, 8, 10)
    now = before.roll((1, 2), (2, 3))
    flow = torch.tensor([-2.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 8, 10)
    visible = torch.zeros(1, 1, 8, 10, dtype=torch.bool)
    visible[..., 1:, 2:] = True
    assert metrics.warping_error(before, now, flow, visible) < 1e-10
    still = torch.zeros_like(flow)
    wanted = (now - before).square()[..., 1:, 2:].mean().item()
    assert metrics.warping_error(before, now, still, visible) == pytest.approx(wanted, rel=1e-5)
    with pytest.raises(ValueError, match="scene cut"):
        metrics.warping_error(before, now, flow, visible & False)


def test_generated_frames_follow_their_flow(moving):
    errors, unmoved = [], []
    for before, now in pairwise(moving):
        if now.flow is not None:
            errors.append(metrics.warping_error(before.pixels, now.pixels, now.flow, now.visible))
            unmoved.append(metrics.warping_error(before.pixels, now.pixels, 0 * now.flow, now.visible))
            assert 0.8 < now.visible.float().mean() < 1
    assert len(errors) == 10, "a cut and a start"
    assert max(errors) < 0.003, "no more than noise and resampling"
    assert np.mean(errors) < np.mean(unmoved) / 5


# Temporal smoothing.


def test_sampling_at_shifted_places_is_a_shift():
    values = np.random.default_rng(0).random((12, 16, 3)).astype(np.float32)
    for channels in (values, values[..., 0], values[..., :2]):  # OpenCV has separate code for each
        for how in (cv2.INTER_LINEAR, cv2.INTER_CUBIC):
            shifted = temporal.sampled(channels, temporal.places_of(12, 16) + np.float32([2, 1]), how)
            np.testing.assert_allclose(shifted[:-1, :-2], channels[1:, 2:], atol=1e-6)


def test_estimated_motion_matches_the_true_motion_where_it_is_trusted(moving):
    found = list(temporal.motions(frame.pixels for frame in moving))
    assert [i for i, (_, motion) in enumerate(found) if motion is None] == [0, 6], "the start and the cut"
    visible_trust, hidden_trust = [], []
    for frame, (_, motion) in zip(moving, found, strict=True):
        if motion is not None:
            flow = torch.from_numpy(motion.places - temporal.places_of(96, 144)).permute(2, 0, 1)[None]
            trust = torch.from_numpy(motion.trust)[None, None]
            sure = (trust > 0.5) & frame.visible
            assert (flow - frame.flow).norm(dim=1)[sure[0]].median() < 1
            visible_trust.append(trust[frame.visible].mean())
            hidden_trust.append(trust[~frame.visible].mean())
    assert np.mean(visible_trust) > np.mean(hidden_trust) + 0.2


def test_trust_sets_how_much_of_the_previous_result_is_carried_over():
    before, stylized = F.interpolate(torch.rand(2, 3, 8, 12), (32, 48), mode="bicubic").clamp(0, 1).split(1)
    places = temporal.places_of(32, 48)
    distrusted = temporal.Motion(places, np.zeros((32, 48), np.float32))
    torch.testing.assert_close(distrusted.carry(before, stylized, 1), stylized, atol=1e-5, rtol=0)
    trusted = temporal.Motion(places, np.ones((32, 48), np.float32))
    torch.testing.assert_close(trusted.carry(stylized, stylized, 0.7), stylized, atol=1e-5, rtol=0)
    assert torch.corrcoef(torch.stack([trusted.carry(before, stylized, 1), before]).flatten(1))[0, 1] > 0.9


def test_fine_strokes_are_carried_less_than_broad_ones():
    motion, shares = temporal.Motion(temporal.places_of(64, 64), np.ones((64, 64), np.float32)), []
    for side in (64, 16):
        before, stylized = F.interpolate(torch.rand(2, 3, side, side), (64, 64), mode="bicubic").clamp(0, 1).split(1)
        mixed = motion.carry(before, stylized, 0.8)
        old, new = (torch.corrcoef(torch.stack([mixed, one]).flatten(1))[0, 1] for one in (before, stylized))
        shares.append(old / new)
    assert shares[0] < 1 < shares[1]


def test_carrying_over_keeps_the_contrast():
    random = torch.Generator().manual_seed(0)
    before, stylized = torch.rand((2, 1, 3, 64, 64), generator=random)
    mixed = temporal.Motion(temporal.places_of(64, 64), np.ones((64, 64), np.float32)).carry(before, stylized, 0.5)
    assert (0.5 * (before + stylized)).std() < 0.75 * stylized.std()
    assert mixed.std() == pytest.approx(stylized.std().item(), rel=0.1)


def test_statistics_are_averaged_by_their_order_and_reset():
    average = temporal.AverageStatistics(0.75)
    ask = [lambda _, i=i: (torch.tensor(float(i)),) for i in range(9)]
    assert [average(ask[i], torch.empty(0))[0].item() for i in (4, 8)] == [4, 8]
    average.end_frame()
    assert [average(ask[i], torch.empty(0))[0].item() for i in (0, 0)] == [3, 6]
    average.reset()
    assert average(ask[1], torch.empty(0))[0].item() == 1


@pytest.mark.parametrize("alpha", [1, 0.5])
def test_tiles_and_the_full_image_have_the_same_averages(lite, painting, alpha):
    frames = [torch.rand(1, 3, 48, 64) for _ in range(2)]
    code = style_encoding.encode_style(lite, painting)
    results = []
    for tile in (None, 32):
        average = temporal.AverageStatistics(0.5)
        for frame in frames:
            stylized = pipeline.stylize(frame, code, lite, alpha=alpha, tile=tile, statistics_fn=average)
            average.end_frame()
        results.append(stylized)
    torch.testing.assert_close(*results, atol=2e-3, rtol=0)
    alone = pipeline.stylize(frames[1], code, lite, alpha=alpha)
    assert (results[0] - alone).abs().max() > 0.01, "averaging must have an effect"


def test_at_zero_each_frame_is_stylized_independently(lite, painting, moving):
    frames = [frame.pixels for frame in moving[:3]]
    stylized = list(runner.stylize_frames(frames, painting, lite, steady=0, alpha=0.7))
    for frame, result in zip(frames, stylized, strict=True):
        assert torch.equal(result, pipeline.stylize(frame, painting, lite, alpha=0.7))


def test_an_unknown_option_is_named_with_a_similar_one(lite, painting):
    with pytest.raises(ValueError, match=r"^unknown option staedy; did you mean steady\?$"):
        runner.stylize_frames([], painting, lite, staedy=0.5)


@pytest.mark.parametrize("tile", [None, 40])
def test_alpha_zero_leaves_every_frame_unchanged(lite, painting, moving, tile):
    frames = [frame.pixels[..., :48, :72] for frame in moving[:2]]
    for frame, result in zip(frames, runner.stylize_frames(frames, painting, lite, alpha=0, tile=tile), strict=True):
        assert torch.equal(result, frame)
    lost = runner.stylize_frames(frames, painting, lite, alpha=0, alpha_blend="features", tile=tile)
    assert all((a - b).abs().mean() > 0.02 for a, b in zip(frames, lost, strict=True))


def test_a_scene_does_not_depend_on_earlier_scenes(lite, painting, moving):
    frames = [frame.pixels for frame in moving]
    stylized = list(runner.stylize_frames(frames, painting, lite))
    alone = list(runner.stylize_frames(frames[6:], painting, lite))
    for a, b in zip(stylized[6:], alone, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(stylized[1], pipeline.stylize(frames[1], painting, lite))


def test_flicker_is_at_most_half_of_independent_frames_at_a_similar_style_distance(lite):
    moving, painting = clip(160), reader.load_image(ROOT / "examples" / "style" / "starry_night.jpg", 160)
    frames = [frame.pixels for frame in moving]
    network = metrics.evaluation_backbone()
    style = network(painting)
    found = {}
    for amount in (0, flicker.default_steadiness()):
        stylized = list(runner.stylize_frames(frames, painting, lite, steady=amount))
        apart = [metrics.style_distance(network(stylized[i]), style).item() for i in (5, 11)]
        found[amount] = flicker.flicker(stylized, moving), np.mean(apart)
    (alone, style_alone), (smoothed, style_smoothed) = found.values()
    assert smoothed < alone / 2
    assert style_smoothed < 1.25 * style_alone


def test_pixels_without_a_mask_stay_unchanged(lite, painting, moving):
    frames = [frame.pixels for frame in moving[:4]]
    mask = torch.zeros(1, 1, 96, 144)
    mask[..., :72] = 1
    stylized = list(runner.stylize_frames(frames, [painting], lite, mask=[mask]))
    for frame, result in zip(frames, stylized, strict=True):
        assert torch.equal(result[..., 72:], frame[..., 72:])
        assert not torch.equal(result[..., :72], frame[..., :72])


def test_masks_colors_and_mixtures_are_as_for_images(lite, painting, moving):
    frames = [moving[0].pixels]
    other = painting.flip(1)
    mask = torch.zeros(1, 1, 96, 144)
    mask[..., :72] = 1
    for options in (
        {"color": "coral"},
        {"color": "keep-luminance", "style_size": "content"},
        {"style": [painting, other], "style_weight": [1, 3]},
        {"style": [painting, other], "mask": [mask, 1 - mask], "alpha": [1, 0.5], "feather": 2},
    ):
        flags = {"style": painting, **options}
        stylized = next(iter(runner.stylize_frames(frames, method=lite, **flags)))
        torch.testing.assert_close(stylized, pipeline.stylize(frames[0], method=lite, **flags), atol=1e-4, rtol=0)


def test_clips_of_a_folder_with_other_files_and_equal_names(tmp_path, make_picture):
    for name in ("one/a.png", "two/a.png"):
        (tmp_path / name).parent.mkdir()
        make_picture(str(tmp_path / name))
    (tmp_path / "README.txt").write_text("photos")
    clips = flicker._clips(tmp_path, tmp_path / "out")
    assert sorted(clips) == [str(tmp_path / "one" / "a.png"), str(tmp_path / "two" / "a.png")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"Expected videos or images in .*, found none"):
        flicker._clips(tmp_path / "empty", tmp_path / "out")
