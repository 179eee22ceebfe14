import copy
import shutil

import pytest
import torch

from model import DepthNet, LossConfig, ModelConfig
from model.losses import build_loss
from pipeline.data.config import DataConfig
from pipeline.train.config import OptimConfig, RunConfig, TrainConfig
from pipeline.train.ema import AveragedWeights
from pipeline.train.machine import open_machine
from pipeline.train.optim import build_optimizer
from pipeline.train.parts import build_parts
from pipeline.train.step import OptimizerStep
from shards.errors import DivergedError

BATCH, PAIRS, SIDE = 6, 40, 32


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch, request):
    if "gpu" not in request.keywords:
        monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


def make_config(loss="ranking", precision="fp32", reduction="mean", gradient_weight=0.0, **optim):
    return RunConfig(
        run="unused",
        data=DataConfig(train="unused", num_pairs=PAIRS),
        model=ModelConfig(encoder="resnet18", decoder_channels=8, freeze_bn=True),
        loss=LossConfig(name=loss, gradient_weight=gradient_weight),
        optim=OptimConfig(name="sgd", momentum=0, weight_decay=0, encoder_lr_ratio=1, **optim),
        train=TrainConfig(steps=1, batch_size=BATCH, size=SIDE, precision=precision, reduction=reduction),
    )


def make_batch():
    """Uneven on purpose: the first pictures keep few pairs and pixels, the third none."""
    rng = torch.Generator().manual_seed(0)
    kept_share = torch.tensor([0.05, 0.2, 0.0, 1.0, 0.9, 0.6])[:, None]
    return {
        "image": torch.randint(256, (BATCH, 3, SIDE, SIDE), dtype=torch.uint8, generator=rng),
        "inverse_depth": torch.rand(BATCH, SIDE, SIDE, generator=rng),
        "confidence": 255 * (torch.rand(BATCH, SIDE, SIDE, generator=rng) < kept_share[..., None]).to(torch.uint8),
        "pairs_yx": torch.randint(SIDE, (BATCH, PAIRS, 4), generator=rng).to(torch.int16),
        "relation": torch.randint(-1, 2, (BATCH, PAIRS), generator=rng).to(torch.int8),
        "valid": torch.rand(BATCH, PAIRS, generator=rng) < kept_share,
        "colour": torch.zeros(BATCH, 0),
        "replaced": 0,
        "keys": [f"sample-{index}" for index in range(BATCH)],
    }


def split(batch, sizes):
    parts, begin = [], 0
    for size in sizes:
        parts.append(
            {name: value if name == "replaced" else value[begin : begin + size] for name, value in batch.items()}
        )
        begin += size
    return parts


def run_step(net, config, micro_batches, lr=0.1, **options):
    machine = open_machine(config)
    optimizer = build_optimizer(net, config.optim, scales_loss=config.train.precision == "fp16")
    prepared, optimizer = machine.accelerator.prepare(net.train(), optimizer)
    step = OptimizerStep(machine, prepared, optimizer, build_loss(config.loss), config)
    return step, step.run(micro_batches, lr, 1, **options)


def make_scaled_step(net, config=None):
    """A step with GradScaler as on a GPU, computed in float32 on the CPU."""
    config = config or make_config()
    machine = open_machine(config)
    accelerator = machine.accelerator
    prepared = accelerator.prepare(net.train())
    accelerator.scaler = torch.amp.GradScaler("cpu")
    accelerator.native_amp, accelerator.state._mixed_precision = True, "fp16"
    optimizer = accelerator.prepare(build_optimizer(net, config.optim, scales_loss=True))
    ema = AveragedWeights(net, decay=0.9)
    return OptimizerStep(machine, prepared, optimizer, build_loss(config.loss), config, ema=ema), ema, accelerator


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    # In double precision, so that what is compared is the arithmetic of the step and not the rounding of the network.
    return DepthNet(ModelConfig(encoder="resnet18", decoder_channels=8, freeze_bn=True)).double()


@pytest.mark.parametrize(
    ("loss", "gradient_weight"),
    [("ranking", 0.0), ("ranking", 0.2), ("improved_ranking", 0.0), ("mae", 0.0), ("ssi_mae", 0.5)],
)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_any_split_does_what_the_loss_of_the_full_batch_would_do(net, loss, gradient_weight, reduction):
    config, batch = make_config(loss, reduction=reduction, gradient_weight=gradient_weight), make_batch()
    reference = copy.deepcopy(net).train()
    objective = build_loss(config.loss)
    total, count = objective(reference(batch["image"]), batch).total, objective.counts(batch)
    terms = objective.weights * total / (count if reduction == "mean" else BATCH)
    terms.sum().backward()
    gradients = {name: parameter.grad for name, parameter in reference.named_parameters() if parameter.requires_grad}
    norm = float(torch.cat([gradient.flatten() for gradient in gradients.values()]).norm())
    for sizes in ((6,), (2, 1, 3)):
        trained = copy.deepcopy(net)
        step, figures = run_step(trained, config, split(batch, sizes))
        assert float(figures.grad_norm) == pytest.approx(norm, rel=1e-5)
        assert figures.terms.tolist() == pytest.approx(terms.tolist(), rel=1e-5)
        assert figures.applied
        assert step.empty_steps == 0
        for name, parameter in net.named_parameters():
            moved = (parameter - trained.get_parameter(name)).detach()
            expected = 0.1 * gradients[name] if name in gradients else torch.zeros_like(moved)
            torch.testing.assert_close(moved, expected, rtol=0, atol=1e-6 * norm)


@pytest.mark.parametrize("setting", ["channels_last", pytest.param("compile", marks=pytest.mark.slow), "unfused"])
def test_settings_of_speed_change_rounding_only(net, setting):
    if setting == "compile" and shutil.which("c++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    plain = make_config()
    changed = {"unfused": {"optim": plain.optim.model_copy(update={"fused": False})}}.get(
        setting, {"train": plain.train.model_copy(update={setting: True})}
    )
    steps = []
    for config in (plain, plain.model_copy(update=changed)):
        config = config.model_copy(update={"model": config.model.model_copy(update={"encoder_weights": "none"})})
        parts = build_parts(config, open_machine(config), resumes=False)
        figures = parts.optimizer_step.run([make_batch()], 0.01, 1)
        assert not any(name.startswith("_orig_mod") for name in parts.tensors()["model"])
        steps.append((float(figures.terms.sum()), float(figures.grad_norm)))
    assert steps[1] == pytest.approx(steps[0], rel=1e-3)


def test_clipping_shortens_the_whole_gradient(net):
    batch = make_batch()
    _, figures = run_step(copy.deepcopy(net), make_config(), [batch])
    limit = float(figures.grad_norm) / 4
    free, clipped = copy.deepcopy(net), copy.deepcopy(net)
    run_step(free, make_config(), [batch])
    _, figures_clipped = run_step(clipped, make_config(clip_grad_norm=limit), [batch])
    assert float(figures_clipped.grad_norm) == pytest.approx(4 * limit)
    for start, far, near in zip(net.parameters(), free.parameters(), clipped.parameters(), strict=True):
        torch.testing.assert_close((near - start).detach(), (far - start).detach() / 4, rtol=1e-2, atol=1e-6)
    for share, clipped_steps in ((0.9, 1), (1.1, 0)):
        config = make_config(clip_grad_norm=share * float(figures.grad_norm))
        assert run_step(copy.deepcopy(net), config, [batch])[0].clipped_steps == clipped_steps


@pytest.mark.parametrize("scaled", [False, True])
def test_a_bound_that_no_gradient_reaches_changes_nothing(net, scaled):
    batch, nets, norms = make_batch(), [], []
    for limit in (None, 1e9):
        trained, config = copy.deepcopy(net), make_config(clip_grad_norm=limit)
        if scaled:
            figures = make_scaled_step(trained, config)[0].run([batch], 0.1, 1)
        else:
            _, figures = run_step(trained, config, [batch])
        nets.append(trained)
        norms.append(float(figures.grad_norm))
    assert (
        norms[0] == norms[1] == pytest.approx(float(run_step(copy.deepcopy(net), make_config(), [batch])[1].grad_norm))
    )
    for free, bounded in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(free, bounded)


def test_norms_of_parameters_and_update_are_those_of_all_trained_weights(net):
    trained = copy.deepcopy(net)
    _, figures = run_step(trained, make_config(), [make_batch()], with_norms=True)
    names = [name for name, parameter in net.named_parameters() if parameter.requires_grad]
    assert len(names) < len(list(net.parameters()))  # frozen ones do not count
    after = torch.cat([trained.get_parameter(name).detach().flatten() for name in names])
    before = torch.cat([net.get_parameter(name).detach().flatten() for name in names])
    assert float(figures.param_norm) == pytest.approx(float(after.norm()))
    assert float(figures.update_norm) == pytest.approx(float((after - before).norm()))
    # Plain SGD: the update is the gradient times the rate.
    assert float(figures.update_norm) == pytest.approx(0.1 * float(figures.grad_norm))
    _, figures = run_step(copy.deepcopy(net), make_config(), [make_batch()])
    assert (figures.param_norm, figures.update_norm) == (None, None)


def test_counts_go_on_in_the_next_session(net):
    config = make_config(clip_grad_norm=1e-6)
    first, _ = run_step(copy.deepcopy(net), config, [make_batch()])
    second, _ = run_step(copy.deepcopy(net), config, [make_batch()])
    first.empty_steps, first.overflowed_steps, first.replaced_samples = 3, 5, 7
    second.restore_counts(first.counts())
    assert second.counts() == {"empty_steps": 3, "overflowed_steps": 5, "replaced_samples": 7, "clipped_steps": 1}


def test_a_scaled_gradient_that_overflows_is_skipped_until_no_scale_helps(net, monkeypatch):
    monkeypatch.setattr("pipeline.train.step.OVERFLOWS_IN_A_ROW", 3)
    trained = copy.deepcopy(net).float()
    handle = trained.decoder_parameters()[0].register_hook(lambda gradient: gradient / 0)
    before = copy.deepcopy(trained.state_dict())
    step, ema, accelerator = make_scaled_step(trained, make_config(clip_grad_norm=1e-6))
    figures = step.run([make_batch()], 0.1, 1, with_norms=True)
    assert not figures.applied
    assert float(figures.update_norm) == 0
    assert (step.overflowed_steps, step.clipped_steps, ema.num_updates) == (1, 0, 0)
    assert accelerator.scaler.get_scale() == 2.0**15
    for name, value in trained.state_dict().items():
        assert torch.equal(value, before[name]), name
    step.run([make_batch()], 0.1, 2)
    with pytest.raises(DivergedError, match=r"3 times in a row up to step 3, .* loss scale of 8192, so no"):
        step.run([make_batch()], 0.1, 3)
    handle.remove()
    step.run([make_batch()], 0.1, 4)
    assert (step.overflowed_steps, step.clipped_steps, ema.num_updates) == (3, 1, 1)


def test_a_loss_that_is_not_finite_stops_at_once_also_where_it_is_scaled(net):
    batch = make_batch()
    batch["colour"] = torch.full((BATCH, 4), torch.nan)
    step, _, _ = make_scaled_step(copy.deepcopy(net).float())
    with pytest.raises(DivergedError, match=r"the loss of step 1 is not finite; its samples: sample-0.*bf16 or fp32"):
        step.run([batch], 0.1, 1)
    assert step.overflowed_steps == 0


def test_the_average_follows_applied_steps_only(net):
    config = make_config()
    config = config.model_copy(update={"optim": config.optim.model_copy(update={"ema_decay": 0.9})})
    parts = build_parts(config, open_machine(config), resumes=False)
    empty = make_batch()
    empty["valid"].zero_()
    for batch, num_updates in ((empty, 0), (make_batch(), 1), (empty, 1), (make_batch(), 2)):
        parts.optimizer_step.run([batch], 0.1, 1)
        assert parts.ema.num_updates == num_updates
    assert parts.result is parts.ema.net
    assert parts.tensors()["ema"].keys() == parts.tensors()["model"].keys()


@pytest.mark.parametrize("place", ["weight", "statistic", "average"])
def test_what_an_update_left_not_finite_is_found_before_it_is_saved(place):
    config = make_config()
    config = config.model_copy(update={"optim": config.optim.model_copy(update={"ema_decay": 0.9})})
    parts = build_parts(config, open_machine(config), resumes=False)
    parts.settle(3)
    net = parts.ema.net if place == "average" else parts.net
    ending = "running_var" if place == "statistic" else "conv1.weight"
    name = next(name for name in net.state_dict() if name.endswith(ending))
    net.state_dict()[name].view(-1)[0] = -torch.inf
    told = f"average of {name}" if place == "average" else name
    with pytest.raises(DivergedError, match=rf"step 3, .* not finite: {told}; lower optim\.lr"):
        parts.settle(3)


def test_a_step_without_pairs_changes_nothing_and_is_counted(net):
    batch = make_batch()
    batch["valid"].zero_()
    trained = copy.deepcopy(net)
    step, figures = run_step(trained, make_config(), split(batch, (3, 3)))
    assert figures is None
    assert step.empty_steps == 1
    for before, after in zip(net.state_dict().values(), trained.state_dict().values(), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("poison", ["input", "gradient"])
def test_a_value_that_is_not_finite_stops_before_the_update_and_names_the_samples(net, poison):
    batch = make_batch()
    trained = copy.deepcopy(net)
    if poison == "input":
        batch["colour"] = torch.tensor([[1.0, 1, 1, 0]] * 4 + [[torch.nan, 1, 1, 0]] + [[1.0, 1, 1, 0]])
    else:
        trained.decoder_parameters()[0].register_hook(lambda gradient: gradient / 0)
    before = copy.deepcopy(trained.state_dict())
    with pytest.raises(DivergedError, match=r"step 1 is not finite; its samples: sample-0, sample-1, .*sample-5"):
        run_step(trained, make_config(), split(batch, (3, 3)))
    for name, value in trained.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_verdict_comes_one_step_late_but_before_anything_is_saved(net):
    batch = make_batch()
    batch["colour"] = torch.full((BATCH, 4), torch.nan)
    step, figures = run_step(copy.deepcopy(net), make_config(), [batch])
    assert not torch.isfinite(figures.terms).all()
    with pytest.raises(DivergedError, match="step 1 is not finite"):
        step.settle()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_an_fp16_overflow_skips_the_step_and_is_counted(net):
    trained = copy.deepcopy(net).float()
    trained.decoder_parameters()[0].register_hook(lambda gradient: gradient / 0)
    before = copy.deepcopy(trained.state_dict())
    step, figures = run_step(trained, make_config(precision="fp16"), [make_batch()])
    step.settle()
    assert step.overflowed_steps == 1
    assert not figures.applied
    for name, value in trained.state_dict().items():
        assert torch.equal(value.cpu(), before[name]), name
