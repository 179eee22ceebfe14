"""Forward and backward of the ranking losses, beside loops over the pictures as published code has them.

`given`: a loop over the same pairs, plain log(1 + exp) in float32, the mean of each picture; with `hardest` it sorts
the unequal pairs of a picture as ours does; with `unbind` it takes the batch apart once, so that autograd does not
add up a map of the whole batch for every picture. `sampled`: a loop that also draws the pairs of each picture
(edges by Sobel, four points across each, as many random pairs as anchors; 3000 in all) and computes in float64. Ours
draws pairs on the host, in the loader's processes; with that work counted too the ratio is printed once more. Times
are medians of alternating rounds.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model import DepthNet, LossConfig, ModelConfig
from model.losses import build_loss
from pipeline.checkup.devices import advised_precision
from shards.config import PairsConfig
from shards.pair_sampler import sample_pairs
from shards.pairs import Tolerance
from shards.randomness import CounterRng
from shards.sources.config import SyntheticSourceConfig
from shards.sources.synthetic import test_scene

from .fed import DTYPES
from .rows import Row

BATCH, NUM_PAIRS, SIZE = 16, 3000, 384
ROUNDS = 21
TOLERANCE = Tolerance("ratio", 0.03)
PAIRS = PairsConfig(num_pairs=NUM_PAIRS, sampler="edge_guided")
OURS = {
    "ranking": LossConfig(name="ranking"),
    "improved ranking": LossConfig(name="improved_ranking"),
}
DENSE = {
    "mae": LossConfig(name="mae"),
    "ssi_mae": LossConfig(name="ssi_mae"),
    "CVPR 2020: ranking + gradient": LossConfig(name="ranking", gradient_weight=0.2),
    "MiDaS: trimmed ssi_mae + gradient": LossConfig(name="ssi_mae", trim_share=0.2, gradient_weight=0.5),
}


def run() -> dict[str, object]:
    """Measure on a GPU where there is one, else on the CPU."""
    scenes, batch, sampling_ms = labels()
    print(f"batch {BATCH}, {NUM_PAIRS} pairs, {SIZE} x {SIZE}, {torch.get_num_threads()} threads")
    record: dict[str, object] = {"threads": torch.get_num_threads(), "our_sampling_ms": round(sampling_ms, 2)}
    counts_ms = {}
    for name, config in (OURS | DENSE).items():
        loss = build_loss(config)
        counts_ms[name] = best_ms(lambda loss=loss: loss.counts(batch))
    print(f"our sampling on the host {sampling_ms:.1f} ms; counts of a batch at most {max(counts_ms.values()):.2f} ms")
    record["counts_ms"] = {name: round(value, 3) for name, value in counts_ms.items()}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    record[device.type] = measure(device, scenes, batch, sampling_ms)
    return record


def rows(record: dict[str, object]) -> list[Row]:
    found = []
    for device in ("cpu", "cuda"):
        ms = record.get(device, {}).get("ms", {})
        found += [
            Row(
                f"loss: {name} on {device}",
                ms[name],
                "ms",
                "a loop over the pictures",
                ms["loop, given, unbind"],
                "lower",
            )
            for name in OURS
            if ms
        ]
    return found


def measure(
    device: torch.device, scenes: dict[str, Tensor], batch: dict[str, Tensor], sampling_ms: float
) -> dict[str, object]:
    scenes = {name: value.to(device) for name, value in scenes.items()}
    batch = {name: value.to(device) for name, value in batch.items()}
    generator = torch.Generator().manual_seed(1)
    prediction = torch.randn(BATCH, SIZE, SIZE, generator=generator).to(device).requires_grad_()
    same_value(prediction, batch)
    losses: dict[str, Callable[[], Tensor]] = {
        "loop, given": lambda: loop_over_given_pairs(indexed(prediction), batch),
        "loop, given, unbind": lambda: loop_over_given_pairs(prediction.unbind(), batch),
        "loop, given, hardest": lambda: loop_over_hard_pairs(indexed(prediction), batch),
        "loop, sampled": lambda: loop_that_samples(prediction, **scenes),
        **{name: ours(config, prediction, batch) for name, config in OURS.items()},
    }
    dense = {name: ours(config, prediction, batch) for name, config in DENSE.items()}
    times = alternating(losses, prediction) | alternating(dense, prediction)
    ms = {name: statistics.median(values) for name, values in times.items()}
    for name, value in ms.items():
        print(f"{device.type:4} {name:34} {value:8.2f} ms")
    ratios = {}
    for name in OURS:
        for loop in ("loop, given", "loop, given, unbind", "loop, sampled"):
            ratios[f"{loop} / {name}"] = ms[loop] / ms[name]
        ratios[f"loop, sampled / {name} and our sampling"] = ms["loop, sampled"] / (ms[name] + sampling_ms)
    ratios["loop, given, hardest / improved ranking"] = ms["loop, given, hardest"] / ms["improved ranking"]
    for name, ratio in ratios.items():
        print(f"{device.type:4} {name:46} {ratio:6.1f}")
    record: dict[str, object] = {
        "ms": {name: round(value, 3) for name, value in ms.items()},
        "ratios": {name: round(ratio, 2) for name, ratio in ratios.items()},
    }
    if device.type == "cuda":
        step = step_ms(batch)
        shares = {name: ms[name] / step for name in OURS | DENSE}
        listed = ", ".join(f"{name} {100 * share:.2f} %" for name, share in shares.items())
        print(f"cuda training step of ResNet-50 {step:.1f} ms; share of it: {listed}")
        record |= {"step_ms": round(step, 2), "share_percent": {n: round(100 * s, 3) for n, s in shares.items()}}
    return record


def labels() -> tuple[dict[str, Tensor], dict[str, Tensor], float]:
    """Rendered pictures with depth, a batch of their labels as the training stream gives it, and ms to draw pairs."""
    config = SyntheticSourceConfig(kind="synthetic", height_px=SIZE, width_px=SIZE)
    found = [test_scene(config, index) for index in range(BATCH)]
    depths = [scene.disparity_px / scene.disparity_px.max() for scene in found]
    known = np.ones((SIZE, SIZE), dtype=bool)
    known[:, :20] = False

    def draw() -> list[np.ndarray]:
        return [
            sample_pairs(scene.left, depth, known, PAIRS, CounterRng("pairs", 0, str(index)), TOLERANCE).pairs
            for index, (scene, depth) in enumerate(zip(found, depths, strict=True))
        ]

    pairs = torch.from_numpy(np.stack(draw()))
    target = torch.from_numpy(np.stack(depths)).float()
    mask = torch.from_numpy(known).expand(BATCH, SIZE, SIZE)
    pictures = torch.from_numpy(np.stack([scene.left for scene in found])).permute(0, 3, 1, 2).float() / 255
    batch = {
        "pairs_yx": pairs[..., :4].contiguous(),
        "relation": pairs[..., 4].to(torch.int8),
        "valid": torch.ones(BATCH, NUM_PAIRS, dtype=torch.bool),
        "inverse_depth": target,
        "confidence": mask.to(torch.uint8) * 255,
    }
    scenes = {"pictures": pictures.sub(0.45).div(0.225), "target": target, "known": mask.contiguous()}
    return scenes, batch, best_ms(draw, rounds=5)


def ours(config: LossConfig, prediction: Tensor, batch: dict[str, Tensor]) -> Callable[[], Tensor]:
    loss = build_loss(config)
    scale = (loss.weights / loss.counts({name: value.cpu() for name, value in batch.items()})).to(prediction)
    return lambda: (loss(prediction, batch).total * scale).sum()


def loop_over_given_pairs(pictures: Iterable[Tensor], batch: dict[str, Tensor]) -> Tensor:
    total = 0.0
    for index, picture in enumerate(pictures):
        y_a, x_a, y_b, x_b = batch["pairs_yx"][index].long().unbind(1)
        relation = batch["relation"][index].float()
        difference = picture[y_a, x_a] - picture[y_b, x_b]
        unequal = relation.abs()
        ordered = unequal * torch.log(1 + torch.exp(difference * relation))
        total = total + (ordered + (1 - unequal) * difference**2).mean()
    return total / len(batch["relation"])


def loop_over_hard_pairs(pictures: Iterable[Tensor], batch: dict[str, Tensor]) -> Tensor:
    """The same with the easiest quarter of a picture's unequal pairs left out."""
    total = 0.0
    for index, picture in enumerate(pictures):
        y_a, x_a, y_b, x_b = batch["pairs_yx"][index].long().unbind(1)
        relation = batch["relation"][index].float()
        difference = picture[y_a, x_a] - picture[y_b, x_b]
        unequal = relation != 0
        ordered = torch.log(1 + torch.exp(difference[unequal] * relation[unequal]))
        hard = ordered.sort(descending=True).values[: math.ceil(0.75 * len(ordered))]
        total = total + torch.cat([hard, difference[~unequal] ** 2]).mean()
    return total / len(batch["relation"])


def indexed(prediction: Tensor) -> Iterator[Tensor]:
    """Picture by picture as `prediction[i]`: the gradient of each is a map of the whole batch."""
    return (prediction[index] for index in range(len(prediction)))


def loop_that_samples(prediction: Tensor, pictures: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """The published procedure as described in its paper and issue tracker, with 3000 pairs a picture."""
    count = len(prediction)
    down, right, strength = sobel(pictures[:, :1])
    flat, wanted = prediction.reshape(count, -1).double(), target.reshape(count, -1).double()
    total = 0.0
    for index in range(count):
        a, b = sampled_pairs(down[index, 0], right[index, 0], strength[index, 0], NUM_PAIRS // 4)
        valid = known[index].reshape(-1)[a] & known[index].reshape(-1)[b]
        ratio = (wanted[index, a] + 1e-6) / (wanted[index, b] + 1e-6)
        nearer = (ratio >= 1.03).double() - (ratio <= 1 / 1.03).double()
        difference = flat[index, a] - flat[index, b]
        unequal = nearer.abs() * valid
        equal = (1 - nearer.abs()) * valid
        total = total + (equal * difference**2).mean()
        total = total + (unequal * torch.log(1 + torch.exp(-difference * nearer))).mean()
    return total / count


def sobel(grey: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient down and to the right and its length, (B, 1, H, W) each."""
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=grey.device)[None, None]
    right = functional.conv2d(grey, across, padding=1)
    down = functional.conv2d(grey, across.mT, padding=1)
    return down, right, torch.sqrt(down**2 + right**2)


def sampled_pairs(down: Tensor, right: Tensor, strength: Tensor, num_anchors: int) -> tuple[Tensor, Tensor]:
    """Flat indices of both ends: three pairs across each anchor and as many random pairs as anchors."""
    height, width = strength.shape
    device = strength.device
    edges = (strength >= 0.1 * strength.max()).reshape(-1).nonzero()[:, 0]
    anchors = edges[torch.randint(len(edges), (num_anchors,), device=device)]
    angle = torch.atan2(down.reshape(-1)[anchors], right.reshape(-1)[anchors])
    distance = torch.randint(2, 31, (4, num_anchors), device=device)
    distance = torch.cat([-distance[:2].sort(0, descending=True).values, distance[2:].sort(0).values])
    x = (anchors % width + torch.round(distance * torch.cos(angle)).long()).clamp(0, width - 1)
    y = (anchors // width + torch.round(distance * torch.sin(angle)).long()).clamp(0, height - 1)
    points = y * width + x
    first, second = torch.randint(height * width, (2, num_anchors), device=device)
    return torch.cat([points[:3].reshape(-1), first]), torch.cat([points[1:].reshape(-1), second])


def same_value(prediction: Tensor, batch: dict[str, Tensor]) -> None:
    """The loops over given pairs must compute what ours do, or their times mean nothing."""
    for name, loop in {"ranking": loop_over_given_pairs, "improved ranking": loop_over_hard_pairs}.items():
        one = [{key: value[index : index + 1] for key, value in batch.items()} for index in range(BATCH)]
        means = [ours(OURS[name], prediction[index : index + 1], one[index])().item() for index in range(BATCH)]
        found, expected = statistics.fmean(means), loop(prediction, batch).item()
        if not math.isclose(found, expected, rel_tol=1e-4):
            raise RuntimeError(f"{name}: the loop gives {expected} and ours {found}")


def alternating(losses: dict[str, Callable[[], Tensor]], prediction: Tensor) -> dict[str, list[float]]:
    """ms of each forward and backward, each loss once a round."""
    times: dict[str, list[float]] = {name: [] for name in losses}
    for number in range(ROUNDS + 2):
        for name, loss in losses.items():
            prediction.grad = None
            begin = now(prediction.device)
            loss().backward()
            if number >= 2:
                times[name].append(1000 * (now(prediction.device) - begin))
    return times


def step_ms(batch: dict[str, Tensor]) -> float:
    """A step of ResNet-50 on the GPU: forward in bf16 (fp16 where it has none), improved ranking, backward, AdamW."""
    dtype = DTYPES[advised_precision(torch.cuda.get_device_capability())]
    net = DepthNet(ModelConfig(encoder="resnet50")).to("cuda").train()
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    image = torch.randint(256, (BATCH, 3, SIZE, SIZE), dtype=torch.uint8, device="cuda")
    loss, times = build_loss(OURS["improved ranking"]), []
    for _ in range(8):
        begin = now(image.device)
        with torch.autocast("cuda", dtype=dtype):
            inverse_depth = net(image)
        sums = loss(inverse_depth, batch)
        (sums.total / sums.count).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(1000 * (now(image.device) - begin))
    return statistics.median(times[3:])


def best_ms(work: Callable[[], object], rounds: int = 20) -> float:
    work()
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return 1000 * min(times)


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
