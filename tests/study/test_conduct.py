import pytest
import yaml

from launch.recipe import load_recipe
from pipeline.study.conduct import conduct
from pipeline.study.plan import plan
from pipeline.study.progress import Places, state_of, stored_results
from pipeline.study.results import read_result, write_result
from pipeline.train.config import RunConfig
from pipeline.train.provenance import settings_to_keep
from pipeline.train.session import Interrupted
from pipeline.train.status import Status, write_status
from shards.errors import DivergedError, RunError

from .study_results import LR, result

RUNS = plan("cpu", ["losses"], lr=LR)[:4]


def configure(run):
    overrides = [f"{key}={value}" for key, value in run.settings.items()]
    return load_recipe("configs/study_cpu.yaml", overrides, needs=RunConfig).recipe.run_config()


class Trainer:
    """Writes what a run leaves; stops, diverges or is killed where it is told to."""

    def __init__(self, places, *, stops=(), diverges=(), killed=()):
        self.places = places
        self.stops, self.diverges, self.killed = list(stops), list(diverges), list(killed)
        self.trained, self.judged, self.prepared, self.said = [], [], [], []

    def train(self, run, config):
        folder = self.places.run(run.name)
        (folder / "checkpoints" / "step_00000100").mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(settings_to_keep(config)))
        self.trained.append(run.name)
        state = "finished"
        if run.name in self.stops:
            self.stops.remove(run.name)
            state = "stopped"
        if run.name in self.killed:
            self.killed.remove(run.name)
            state = "running"  # nobody holds the lock, so it was killed
        if run.name in self.diverges:
            state = "failed"
        status = Status(
            state=state, reason="told to", step=100, total_steps=100, samples_seen=800, hours=0.1, next_command="x"
        )
        write_status(folder, status)
        if state == "running":
            raise KeyboardInterrupt
        if state == "failed":
            raise DivergedError("the loss is not finite")
        return status

    def judge(self, run):
        self.judged.append(run.name)
        self.places.results.mkdir(parents=True, exist_ok=True)
        write_result(self.places.result(run.name), result(run.arm.name, run.seed, {"shards": [0.1, 0.2]}))

    def go(self, runs=RUNS):
        return conduct(
            runs,
            self.places,
            configure=configure,
            prepare=self.prepared.append,
            train=self.train,
            judge=self.judge,
            say=self.said.append,
        )


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path / "study", "cpu")


def test_a_study_trains_and_judges_everything_once(places):
    trainer = Trainer(places)
    ended = trainer.go()
    assert ended == ((), (), "")
    assert trainer.trained == trainer.judged == [run.name for run in RUNS]
    assert trainer.prepared == ["cleaned"] * 4
    assert not list(places.root.rglob("checkpoints"))  # 300 MB each in earnest
    again = Trainer(places)
    assert again.go() == ((), (), "")
    assert again.trained == again.judged == again.said == []
    assert [found.name for found in stored_results(places)] == sorted(run.name for run in RUNS)


def test_a_run_that_stops_ends_the_study_which_goes_on_with_it(places):
    trainer = Trainer(places, stops=["ranking_s0"])
    ended = trainer.go()
    assert ended.left == ("ranking_s0", "improved_ranking_s0") and ended.reason == "told to"
    assert trainer.judged == ["mae_s0", "mse_s0"]
    assert places.run("ranking_s0").joinpath("checkpoints").is_dir()
    assert state_of(RUNS[2], configure(RUNS[2]), places) == "begun"
    assert trainer.go() == ((), (), "")
    assert trainer.trained == ["mae_s0", "mse_s0", "ranking_s0", "ranking_s0", "improved_ranking_s0"]


def test_a_killed_study_goes_on_with_the_run_it_was_killed_in(places):
    trainer = Trainer(places, killed=["mse_s0"])
    with pytest.raises(KeyboardInterrupt):
        trainer.go()
    assert state_of(RUNS[1], configure(RUNS[1]), places) == "begun"
    assert trainer.go() == ((), (), "")
    assert trainer.trained.count("mae_s0") == 1 and trainer.trained.count("mse_s0") == 2


def test_a_run_that_is_trained_but_not_judged_is_only_judged(places):
    Trainer(places).go(RUNS[:1])
    places.result("mae_s0").unlink()
    assert state_of(RUNS[0], configure(RUNS[0]), places) == "trained"
    trainer = Trainer(places)
    trainer.go(RUNS[:1])
    assert (trainer.trained, trainer.judged) == ([], ["mae_s0"])


def test_a_run_that_diverges_does_not_end_the_study(places):
    ended = Trainer(places, diverges=["mse_s0"]).go()
    assert ended.left == ended.diverged == ("mse_s0",)
    assert ended.reason == ""


def test_what_diverged_is_told_where_the_time_ends_between_runs(places):
    trainer = Trainer(places, diverges=["mae_s0"])

    def judge(run):
        raise Interrupted("time is up")

    trainer.judge = judge
    ended = trainer.go()
    assert (ended.diverged, ended.reason) == (("mae_s0",), "time is up")
    assert trainer.trained == ["mae_s0", "mse_s0"] and "mae_s0" in ended.left


def test_a_run_of_other_settings_is_refused_before_anything_is_trained(places):
    Trainer(places).go(RUNS[3:])
    config = configure(RUNS[3])
    changed = config.model_copy(update={"train": config.train.model_copy(update={"steps": 7})})
    (places.run(RUNS[3].name) / "config.yaml").write_text(yaml.safe_dump(settings_to_keep(changed)))
    trainer = Trainer(places)
    with pytest.raises(RunError, match=r"improved_ranking_s0 was trained with other settings: train\.steps: 7"):
        trainer.go()
    assert trainer.trained == []


def test_a_result_of_other_settings_is_refused(places):
    Trainer(places).go(RUNS[:1])
    stored = read_result(places.result("mae_s0"))
    write_result(places.result("mae_s0"), stored.model_copy(update={"settings": {"loss.name": "mse"}}))
    with pytest.raises(RunError, match=r"mae_s0\.json: was trained with loss\.name=mse, the study now says loss\."):
        Trainer(places).go()


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"name": "x"}'])
def test_a_damaged_result_is_named(places, content):
    places.results.mkdir(parents=True)
    places.result("mae_s0").write_text(content)
    with pytest.raises(RunError, match=r"mae_s0\.json: is no result .* delete it"):
        Trainer(places).go()


@pytest.mark.parametrize("content", ["[", "a: [1"])
def test_damaged_settings_are_named(places, content):
    places.run("mae_s0").mkdir(parents=True)
    (places.run("mae_s0") / "config.yaml").write_text(content)
    with pytest.raises(RunError, match=r"config\.yaml: cannot be read"):
        Trainer(places).go()
