import pytest
import torch

from model import DepthNet, ModelConfig
from pipeline.train.config import OptimConfig
from pipeline.train.optim import build_optimizer, parameter_groups, set_learning_rate


@pytest.fixture(scope="module")
def net():
    return DepthNet(ModelConfig(encoder="resnet18", decoder_channels=8))


def test_each_trainable_parameter_is_in_exactly_one_group(net):
    grouped = [id(parameter) for group in parameter_groups(net, OptimConfig()) for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in net.parameters())


def test_frozen_norms_are_in_no_group():
    net = DepthNet(ModelConfig(encoder="resnet18", decoder_channels=8, freeze_bn=True))
    grouped = {id(parameter) for group in parameter_groups(net, OptimConfig()) for parameter in group["params"]}
    assert grouped == {id(parameter) for parameter in net.parameters() if parameter.requires_grad}
    assert len(grouped) < len(list(net.parameters()))


def test_only_weights_decay_and_only_the_encoder_is_slower(net):
    config = OptimConfig(lr=0.5, encoder_lr_ratio=0.1, weight_decay=0.01)
    optimizer = build_optimizer(net, config)
    set_learning_rate(optimizer, 0.2)
    encoder = {id(parameter) for parameter in net.encoder_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.01 if parameter.ndim > 1 else 0.0)
            assert group["lr"] == pytest.approx(0.02 if id(parameter) in encoder else 0.2)


def test_sgd_follows_its_textbook_rule(net):
    config = OptimConfig(name="sgd", lr=0.5, momentum=0.9, weight_decay=0.01, encoder_lr_ratio=1)
    optimizer = build_optimizer(net, config)
    weight = net.decoder_parameters()[0]
    expected, velocity = weight.detach().clone(), torch.zeros_like(weight)
    for lr in (0.5, 0.25):
        for parameter in net.parameters():
            parameter.grad = torch.ones_like(parameter)
        set_learning_rate(optimizer, lr)
        optimizer.step()
        velocity = 0.9 * velocity + 1 + (0.01 * expected if weight.ndim > 1 else 0)
        expected = expected - lr * velocity
    torch.testing.assert_close(weight.detach(), expected)


@pytest.mark.parametrize(
    ("fused", "scales_loss", "expected"), [(None, False, True), (None, True, None), (False, False, None)]
)
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_an_update_that_is_not_fused_goes_the_way_that_torch_takes_by_itself(net, name, fused, scales_loss, expected):
    optimizer = build_optimizer(net, OptimConfig(name=name, fused=fused), scales_loss=scales_loss)
    assert {(group["fused"], group["foreach"]) for group in optimizer.param_groups} == {(expected, None)}


def test_adamw_takes_its_settings(net):
    optimizer = build_optimizer(net, OptimConfig(name="adamw", betas=(0.8, 0.95)))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.95)}
