import json

import pytest
import torch
from torch import Tensor, nn

from pipeline.train.optimizer_state import flatten_optimizer, restore_optimizer, unflatten_optimizer

SETTINGS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": True}),
    ("AdamW", {"lr": 1e-3}),
    ("AdamW", {"lr": 1e-3, "betas": (0.8, 0.95), "amsgrad": True, "foreach": False}),
    ("AdamW", {"lr": 1e-3, "capturable": False, "fused": True}),
]


def net_and_optimizer(name: str, options: dict) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2)).to(
        memory_format=torch.channels_last
    )
    net[3].bias.requires_grad_(False)  # a parameter without state
    groups = [{"params": net[0].parameters(), "lr": 1e-2}, {"params": net[1:].parameters(), "weight_decay": 0.0}]
    return net, getattr(torch.optim, name)(groups, **options)


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[Tensor]:
    for step in steps:
        torch.manual_seed(step)
        optimizer.zero_grad()
        net(torch.randn(2, 3, 8, 8)).square().mean().backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in net.parameters()]


def through_bytes(state_dict: dict) -> dict:
    tensors, rest = flatten_optimizer(state_dict)
    assert all(isinstance(tensor, Tensor) for tensor in tensors.values())
    copies = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    return unflatten_optimizer(copies, json.loads(json.dumps(rest, allow_nan=False)))


def equal(a: object, b: object) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return (a.dtype, a.shape, a.stride()) == (b.dtype, b.shape, b.stride()) and bool((a == b).all())
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


@pytest.mark.parametrize(("name", "options"), SETTINGS)
def test_training_after_a_round_trip_is_bit_equal_to_training_on(name, options):
    net, optimizer = net_and_optimizer(name, options)
    train(net, optimizer, range(3))
    weights = {key: value.clone() for key, value in net.state_dict().items()}
    stored = through_bytes(optimizer.state_dict())
    assert equal(stored, optimizer.state_dict())
    expected = train(net, optimizer, range(3, 8))

    other_net, other = net_and_optimizer(name, options)
    train(other_net, other, range(20, 21))  # anything but a fresh state
    other_net.load_state_dict(weights)
    other.load_state_dict(stored)
    continued = train(other_net, other, range(3, 8))
    assert all(torch.equal(a, b) for a, b in zip(expected, continued, strict=True))


@pytest.mark.parametrize("before", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("name", "options"), [("SGD", {"lr": 0.1, "momentum": 0.9}), ("AdamW", {"lr": 1e-3})])
def test_a_fused_update_goes_on_alike_in_another_memory_layout(name, options, before):
    def run(layouts: tuple[torch.memory_format, torch.memory_format]) -> torch.Tensor:
        net, optimizer = None, None
        for session, layout in enumerate(layouts):
            weights, stored = (net.state_dict(), through_bytes(optimizer.state_dict())) if net else (None, None)
            net = nn.Conv2d(3, 4, 3).to(memory_format=torch.contiguous_format)
            if weights is None:
                torch.manual_seed(1)
                net.weight.data.normal_()
                net.bias.data.zero_()
            else:
                net.load_state_dict({key: value.contiguous() for key, value in weights.items()})
            net.to(memory_format=layout)
            optimizer = getattr(torch.optim, name)(net.parameters(), fused=True, **options)
            if stored is not None:
                restore_optimizer(optimizer, stored)
            for step in range(3):
                torch.manual_seed(10 * session + step)
                for parameter in net.parameters():
                    parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape))
                optimizer.step()
        return net.weight.detach().contiguous()

    after = torch.channels_last if before is torch.contiguous_format else torch.contiguous_format
    torch.testing.assert_close(run((before, after)), run((before, before)), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("fused", [True, False])
def test_whether_the_update_is_fused_is_this_sessions_choice(fused):
    net, optimizer = net_and_optimizer("AdamW", {"lr": 1e-3, "fused": not fused})
    train(net, optimizer, range(2))
    other_net, other = net_and_optimizer("AdamW", {"lr": 1e-3, "fused": fused})
    restore_optimizer(other, through_bytes(optimizer.state_dict()))
    assert [group["fused"] for group in other.param_groups] == [fused, fused]
    train(other_net, other, range(2, 3))


def test_a_learning_rate_tensor_and_a_state_before_the_first_step():
    _, optimizer = net_and_optimizer("AdamW", {"lr": torch.tensor(1e-3), "capturable": True, "foreach": False})
    stored = through_bytes(optimizer.state_dict())
    assert stored["state"] == {}
    assert equal(stored, optimizer.state_dict())


def test_values_without_a_word_in_json_come_back_as_they_were():
    state = {3: {"a": None, "b": (1, (2.5, True)), "c": [float("inf"), -0.0, 1e-310], "d": {"tensor": 4}, "e": "x"}}
    stored = through_bytes({"state": state, "param_groups": [{"params": [0, 1]}]})
    assert equal(stored, {"state": state, "param_groups": [{"params": [0, 1]}]})
    assert str(stored["state"][3]["c"][1]) == "-0.0"


def test_a_slice_of_something_larger_comes_back_as_a_tensor_of_its_own():
    part = torch.arange(12.0).view(3, 4)[:, :2]
    moment = through_bytes({"state": {0: {"m": part}}, "param_groups": []})["state"][0]["m"]
    assert torch.equal(moment, part)
    assert moment.is_contiguous()


def test_what_cannot_be_stored_is_named():
    with pytest.raises(TypeError, match=r"state\.0\.hook: a function"):
        flatten_optimizer({"state": {0: {"hook": equal}}, "param_groups": []})


@pytest.mark.parametrize(
    ("tensors", "rest", "message"),
    [
        ({}, {"state": {"0": {"m": {"tensor": "state.0.m"}}}, "param_groups": []}, "'state.0.m' is missing"),
        ({"x": torch.ones(1)}, {"state": {}, "param_groups": []}, "without a place: x"),
        (
            {"x": torch.ones(2, 3)},
            {"state": {"0": {"m": {"tensor": "x", "strides": [1 << 40, 1]}}}, "param_groups": []},
            "cannot have strides",
        ),
        (
            {"x": torch.ones(2, 3)},
            {"state": {"0": {"m": {"tensor": "x", "strides": [1]}}}, "param_groups": []},
            "cannot have strides",
        ),
        ({}, {"param_groups": []}, "not in the expected form"),
        ({}, {"state": [], "param_groups": []}, "not in the expected form"),
        ({}, {"state": {}, "param_groups": [{"lr": {"tuple": 3}}]}, "not in the expected form"),
        ({}, {"state": {}, "param_groups": [{"lr": {"pickle": "x"}}]}, "unknown tag"),
        ({}, {"state": {}, "param_groups": [{"lr": {"tuple": [], "dict": {}}}]}, "not one tagged value"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(tensors, rest, message):
    with pytest.raises(ValueError, match=message):
        unflatten_optimizer(tensors, rest)
