import numpy as np
import pytest
import torch
from torch import nn

from pipeline.eval.inference import Inference, network_size
from pipeline.eval.predict import Predictor, evaluation_mode
from shards.errors import ConfigError


class RowNet(nn.Module):
    """Answers with the brightness of the red channel; remembers what it was given."""

    size_hw = (64, 96)

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.frozen = nn.Dropout(0.5).eval()
        self.seen = []

    def forward(self, image):
        self.seen.append((tuple(image.shape), self.training, self.norm.training))
        return self.frozen(self.norm(image.float() / 255))[:, 0]


def ramp(height, width):
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 250, height)[:, None]
    return image


@pytest.mark.parametrize("picture_hw", [(375, 1242), (480, 640), (640, 480), (100, 100), (37, 53), (1, 1)])
@pytest.mark.parametrize("training_hw", [(384, 384), (96, 128), (32, 32)])
def test_the_network_sees_multiples_of_32_of_the_training_area_in_the_pictures_aspect(picture_hw, training_hw):
    height, width = network_size(picture_hw, training_hw)
    assert height % 32 == width % 32 == 0
    assert min(height, width) >= 32
    area, wanted = height * width, training_hw[0] * training_hw[1]
    if wanted > 32 * 32:
        assert 0.6 < area / wanted < 1.5
    aspect = picture_hw[1] / picture_hw[0]
    if wanted >= 384 * 384:
        assert abs(np.log(width / height / aspect)) < 0.12


def test_the_training_size_is_kept_for_its_own_aspect():
    assert network_size((384, 384), (384, 384)) == (384, 384)
    assert network_size((144, 192), (96, 128)) == (96, 128)
    assert network_size((640, 480), (128, 96)) == (128, 96)


def test_a_sliver_does_not_grow_without_bound():
    height, width = network_size((1, 32767), (384, 384))
    assert height * width <= 384 * 384


def test_prediction_has_the_pictures_size_and_keeps_its_geometry():
    predict = Predictor(RowNet().eval(), "cpu")
    image = ramp(200, 310)
    inverse_depth = predict(image)
    assert inverse_depth.shape == (200, 310)
    assert inverse_depth.dtype == np.float32
    # Down and up again, a ramp stays the ramp that it was except at the ends: nothing is shifted.
    inner = inverse_depth[20:-20]
    assert np.abs(inner / inner.max() - image[20:-20, :, 0] / image[20:-20, :, 0].max()).max() < 0.01


def test_pictures_of_one_shape_share_a_batch_and_order_is_kept():
    net = RowNet().eval()
    images = [ramp(64, 96), ramp(128, 192), ramp(96, 64), ramp(64, 96), ramp(64, 96), ramp(64, 96)]
    together = Predictor(net, "cpu", batch_size=2).many(images)
    assert [shape[0] for shape, _, _ in net.seen] == [2, 1, 2, 1]
    for image, inverse_depth in zip(images, together, strict=True):
        np.testing.assert_allclose(inverse_depth, Predictor(net, "cpu")(image), atol=1e-6)


def test_modes_statistics_and_random_state_are_left_as_they_were():
    net = RowNet().train()
    net.frozen.eval()
    torch.manual_seed(3)
    random_state, statistics = torch.get_rng_state(), {k: v.clone() for k, v in net.state_dict().items()}
    Predictor(net, "cpu")(ramp(64, 96))
    assert net.seen[0][1:] == (False, False)
    assert (net.training, net.norm.training, net.frozen.training) == (True, True, False)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, statistics[name]) for name, value in net.state_dict().items())


def test_modes_come_back_after_an_error():
    net = RowNet().train()
    with pytest.raises(RuntimeError, match="boom"), evaluation_mode(net):
        raise RuntimeError("boom")
    assert net.norm.training


def test_a_network_can_train_on_after_a_prediction():
    net = RowNet().train()
    Predictor(net, "cpu")(ramp(64, 96))
    net(torch.rand(1, 3, 32, 32)).sum().backward()
    assert net.norm.bias.grad is not None


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(ValueError, match="must be"):
        Predictor(RowNet(), "cpu")(image)


def test_read_only_pictures_are_fine():
    image = ramp(64, 96)
    image.setflags(write=False)
    assert Predictor(RowNet().eval(), "cpu")(image).shape == (64, 96)


class ColumnNet(nn.Module):
    """Brightness plus the column: a mirrored picture gets another answer. The unit may grow with the size."""

    size_hw = (64, 96)

    def __init__(self, by_size=False):
        super().__init__()
        self.by_size = by_size
        self.seen = []

    def forward(self, image):
        self.seen.append(tuple(image.shape[2:]))
        width = image.shape[3]
        answer = image.float().mean(dim=1) / 255 + torch.linspace(0, 1, width)
        return answer * width + 1000 * width if self.by_size else answer


def photo(height, width, seed=0):
    coarse = np.random.default_rng(seed).uniform(0, 255, (4, 6, 3)).astype(np.float32)
    tensor = torch.from_numpy(coarse).permute(2, 0, 1)[None]
    large = nn.functional.interpolate(tensor, (height, width), mode="bilinear")
    return large[0].permute(1, 2, 0).numpy().astype(np.uint8)


def test_the_usual_prediction_is_asked_for_once_and_unchanged():
    image = photo(90, 130)
    net = ColumnNet()
    plain = Predictor(net, "cpu")(image)
    assert np.array_equal(Predictor(net, "cpu", inference=Inference())(image), plain)
    assert net.seen == [(64, 96)] * 2


def test_flip_averages_with_the_mirrored_picture():
    image = photo(128, 192)
    plain = Predictor(ColumnNet(), "cpu")
    mirrored = plain(np.ascontiguousarray(image[:, ::-1]))[:, ::-1]
    both = Predictor(ColumnNet(), "cpu", inference=Inference(flip=True))
    np.testing.assert_allclose(both(image), (plain(image) + mirrored) / 2, atol=1e-5)
    np.testing.assert_allclose(both(np.ascontiguousarray(image[:, ::-1])), both(image)[:, ::-1], atol=1e-5)


def test_scales_are_brought_to_the_unit_of_the_usual_one_before_they_are_averaged():
    image = photo(128, 192)
    net = ColumnNet(by_size=True)
    inference = Inference(scales=(0.5, 1.0, 2.0))
    averaged = Predictor(net, "cpu", inference=inference)(image)
    assert net.seen[1:] == [(64, 96), (128, 192)]
    answers = [Predictor(ColumnNet(by_size=True), "cpu", inference=Inference(scales=(s,)))(image) for s in (0.5, 1, 2)]
    usual = answers[1].astype(np.float64)
    slow = np.zeros_like(usual)
    for answer in answers:
        shifted = answer - np.median(answer)
        slow += shifted / np.abs(shifted).mean() * np.abs(usual - np.median(usual)).mean() + np.median(usual)
    np.testing.assert_allclose(averaged, slow / 3, rtol=1e-5)
    assert np.median(averaged) == pytest.approx(np.median(usual), rel=1e-3)


def test_a_constant_answer_at_one_scale_does_not_spoil_the_average():
    class Flat(ColumnNet):
        def forward(self, image):
            answer = super().forward(image)
            return answer if image.shape[3] == 96 else torch.full_like(answer, 5.0)

    image = photo(128, 192)
    averaged = Predictor(Flat(), "cpu", inference=Inference(scales=(1.0, 2.0)))(image)
    assert np.isfinite(averaged).all()
    usual = Predictor(ColumnNet(), "cpu")(image)
    assert np.corrcoef(averaged.ravel(), usual.ravel())[0, 1] > 0.999


def test_many_pictures_get_the_same_answers_as_one_by_one_with_all_options():
    images = [photo(64, 96), photo(64, 96, 1), photo(120, 60, 2), photo(120, 61, 3)]
    predict = Predictor(ColumnNet(), "cpu", inference=Inference(flip=True, scales=(1.0, 1.5), long_side_px=128))
    for image, answer in zip(images, predict.many(images), strict=True):
        assert answer.shape == image.shape[:2]
        np.testing.assert_allclose(answer, predict(image), atol=1e-5)


@pytest.mark.parametrize("picture_hw", [(375, 1242), (480, 640), (640, 480), (100, 100), (37, 53), (2, 999)])
@pytest.mark.parametrize("long_side_px", [384, 500, 32])
def test_the_long_side_is_kept_and_the_aspect_with_it(picture_hw, long_side_px):
    ((height, width),) = Inference(long_side_px=long_side_px).sizes(picture_hw, (64, 96))
    assert height % 32 == width % 32 == 0
    assert abs(max(height, width) - long_side_px) <= 16
    wanted = min(picture_hw) / max(picture_hw) * long_side_px
    assert abs(min(height, width) - wanted) <= 16 or min(height, width) == 32


@pytest.mark.parametrize(
    "options",
    [{"scales": ()}, {"scales": (0.01,)}, {"scales": (1.0, 1.0)}, {"scales": (float("nan"),)}]
    + [{"long_side_px": side} for side in (0, 31, 5000)],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match=r"--scales|--long-side"):
        Inference(**options)
