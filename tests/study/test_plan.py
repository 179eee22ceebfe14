import pytest

from launch.recipe import load_recipe
from pipeline.study.claims import BASELINE, CLAIMS
from pipeline.study.plan import BASE, EXPERIMENTS, PACKING, PRESETS, SUBSETS, arms, arms_of, chosen, plan
from pipeline.train.config import RunConfig
from shards.config import PackConfig
from shards.errors import ConfigError

LR = 1e-3


def test_the_losses_of_the_cpu_study_are_twelve_runs_a_seed_at_a_time():
    names = [run.name for run in plan("cpu", ["losses"], lr=LR)]
    assert names == [f"{arm}_s{seed}" for seed in (0, 1, 2) for arm in ("mae", "mse", "ranking", BASE)]


def test_a_run_that_two_experiments_share_is_trained_once():
    names = [run.name for run in plan("cpu", ["losses", "pairs", "size"], lr=LR)]
    assert len(names) == len(set(names)) == 12 + 2 * 3 + 2 * 2
    assert names[12:] == [f"pairs_{n}_s{seed}" for seed in (0, 1) for n in (1, 100, 1000)] + [
        f"{share}_s{seed}" for seed in (0, 1) for share in ("quarter", "half")
    ]


def test_the_experiments_keep_their_order_whatever_the_order_asked_for():
    assert [experiment.name for experiment in chosen(["size", "losses"])] == ["losses", "size"]
    assert chosen([]) == EXPERIMENTS


@pytest.mark.parametrize(("name", "hint"), [("loses", "did you mean 'losses'"), ("x", "there are losses, pairs")])
def test_an_unknown_experiment_is_refused(name, hint):
    with pytest.raises(ConfigError, match=hint):
        plan("cpu", [name], lr=LR)


def test_the_gpu_study_has_all_arms_with_three_seeds():
    runs = plan("gpu", lr=LR)
    assert {run.arm.name for run in runs} == set(arms(LR))
    assert len(runs) == 3 * len(arms(LR))
    assert {"edge_guided"} == {run.arm.name for run in plan("gpu", ["losses"], lr=LR)} - {
        run.arm.name for run in plan("cpu", ["losses"], lr=LR)
    }


def test_a_run_differs_from_the_recipe_in_its_arm_and_seed_alone():
    run = next(run for run in plan("gpu", lr=3e-4) if run.name == "lr_third_s2")
    assert run.settings == {"optim.lr": "0.0001", "train.seed": "2"}
    assert run.shards == "cleaned"
    base = next(run for run in plan("cpu", lr=LR) if run.name == f"{BASE}_s1")
    assert base.settings == {"train.seed": "1"}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_run_and_dataset_is_a_valid_recipe(preset):
    path = f"configs/study_{preset}.yaml"
    base = load_recipe(path, needs=RunConfig).recipe
    seen = set()
    for run in plan(preset, lr=base.optim.lr):
        overrides = [f"{key}={value}" for key, value in run.settings.items()]
        config = load_recipe(path, overrides, needs=RunConfig).recipe.run_config()
        assert config.train.seed == run.seed
        settings = config.model_dump_json() + run.shards
        assert settings not in seen, f"{run.name} is the same as another run"
        seen.add(settings)
    for name, overrides in PACKING.items():
        assert load_recipe(path, overrides, needs=PackConfig).recipe.pack_config(), name


def test_every_dataset_of_an_arm_can_be_made_and_every_claim_names_arms_of_its_experiment():
    known = arms(LR)
    assert {arm.shards for arm in known.values()} == set(PACKING) | set(SUBSETS)
    of_experiment = {experiment.name: set(arms_of(experiment, "gpu")) for experiment in EXPERIMENTS}
    for claim in CLAIMS:
        assert {name for pair in claim.comparisons for name in pair} <= of_experiment[claim.experiment] | {BASELINE}
