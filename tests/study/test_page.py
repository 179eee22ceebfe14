import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from pipeline.study.analysis import WEB, Study
from pipeline.study.claims import BASELINE, CLAIMS
from pipeline.study.page import Facts, write_page
from pipeline.study.plan import BASE, EXPERIMENTS, arms, chosen
from pipeline.study.plots import draw_experiment
from pipeline.study.publish import publish_page
from shards.errors import RunError

from .study_results import LR, result

HARD = np.random.default_rng(1).uniform(0.1, 0.4, 30)


def runs(arm, shift, seeds=(0, 1, 2)):
    return [result(arm, s, {"shards": HARD + shift, "gt": HARD[:8] + shift}) for s in seeds]


def losses(**shifts):
    """A study of the losses with these errors, in shares above the hardness of the pictures."""
    found = [one for arm, shift in shifts.items() for one in runs(arm, shift)]
    return Study([*found, result(BASELINE, None, {"shards": HARD + 0.2, "gt": HARD[:8] + 0.2})])


def facts(**changes):
    fields = {
        "preset": "cpu",
        "command": "python -m launch.study",
        "config": "configs/study_cpu.yaml",
        "setting": {"steps": 100},
        "batch_size": 3,
        "accepted": {"train": 150, "val": 50},
        "rejects": {"flat": 2, "contradicted": 9},
        "left": [],
    }
    return Facts(**fields | changes)


def page(study, only=("losses",), **changes):
    return write_page(study, facts(**changes), chosen(only), arms(LR), {"losses": "images/x.svg"})


def rows(text, first_cell):
    return [line for line in text.splitlines() if line.startswith(f"| {first_cell} |")]


def verdict_of(text, claim):
    (row,) = rows(text, claim)
    return row.split(" | ")[2]


def test_the_order_of_the_paper_is_called_reproduced_where_it_is():
    text = page(losses(mae=0.08, mse=0.07, ranking=0.02, improved_ranking=0.0))
    for claim in CLAIMS:
        if claim.experiment == "losses" and "Edge" not in claim.text:
            assert verdict_of(text, claim.text) == "**yes**"
    assert "- Reproduces at this size: Trained on web stereo" in text
    assert "other way round at" not in text and "- Open" not in text


def test_the_opposite_order_is_called_so():
    text = page(losses(mae=0.0, mse=0.07, ranking=0.02, improved_ranking=0.02))
    assert verdict_of(text, "Ranking is better than L1") == "**no**"
    assert verdict_of(text, "Ranking is better than L2") == "**yes**"
    assert verdict_of(text, "Improved ranking is better than ranking") == "not separable"
    assert "- Comes out the other way round at this size: Ranking is better than L1." in text
    assert "- Open at this size: Improved ranking is better than ranking." in text


def test_figures_and_differences_stand_on_the_page():
    study = losses(mae=0.08, ranking=0.02, improved_ranking=0.0)
    text = page(study)
    (row,) = rows(text, "Ranking is better than L1")
    assert "16.67 against 22.27" in row and "-6.0 [-6.0, -6.0]" in row
    (row,) = rows(text, r"MAE \(L1\)".replace("\\", ""))
    figure = study.figure("mae", WEB)
    assert f"{100 * figure.value:.1f} [{100 * figure.interval.low:.1f}" in row and "± 0.0" in row
    assert len(rows(text, BASELINE)) == 1
    assert verdict_of(text, "Ranking is better than L2") == "not trained yet"
    assert "Without a result yet: `mse_s0`, `mse_s1`, `mse_s2`." in text
    assert "150 train, 50 val; left out: contradicted 9, flat 2" in text
    assert "![Losses: WHDR of each arm](images/x.svg)" in text


def test_what_is_left_is_named_and_an_experiment_without_arms_has_no_table():
    study = losses(mae=0.08, ranking=0.02, improved_ranking=0.0)
    text = page(study, only=("losses", "pairs"), left=["mse_s0", "pairs_1_s0"])
    assert "2 runs, with which the same command goes on: `mse_s0`, `pairs_1_s0`." in text
    assert "## Pairs per picture" not in text
    assert "Not compared yet: pairs per picture." in text
    assert "Nothing: every planned run" in page(study)
    assert text.index("## Verdicts") < text.index("## Losses") < text.index("## What is left") < text.index("## Run it")


def test_short_runs_are_called_so_and_long_ones_not():
    study = losses(mae=0.08, improved_ranking=0.0)
    assert "each saw its training pictures 2.0 times" in page(study)
    long = Study([one.model_copy(update={"steps": 3000}) for one in study.results])
    assert "Short runs" not in page(long)


def test_claims_on_arms_that_the_preset_does_not_train_are_not_asked():
    study = losses(mae=0.08, improved_ranking=0.0)
    assert not rows(page(study), "Edge-guided pairs are better than random ones")
    assert rows(page(study, preset="gpu"), "Edge-guided pairs are better than random ones")


def test_one_seed_gives_no_verdict():
    study = Study([*runs("mae", 0.1, seeds=(0,)), *runs("ranking", 0.0, seeds=(0,))])
    text = page(study)
    assert verdict_of(text, "Ranking is better than L1") == "not separable"
    assert "-10.0 (one seed)" in text


def test_every_table_of_the_page_is_a_table():
    text = page(losses(mae=0.08, mse=0.1, ranking=0.02, improved_ranking=0.0))
    blocks = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(blocks) == 3
    for block in blocks:
        assert len({line.count("|") for line in block.splitlines()}) == 1


@pytest.mark.parametrize("name", [experiment.name for experiment in EXPERIMENTS[:1]])
def test_the_picture_is_small_svg_and_the_same_each_time(name):
    study = losses(mae=0.08, ranking=0.02, improved_ranking=0.0)
    titles = {arm.name: arm.title for arm in arms(LR).values()}
    svg, again = (draw_experiment(study, ["mae", "mse", "ranking", BASE], titles, name) for _ in range(2))
    assert svg == again and len(svg) < 60_000
    words = " ".join("".join(element.itertext()) for element in ElementTree.fromstring(svg).iter())
    assert "MAE (L1)" in words and "MSE (L2)" not in words


def test_the_page_is_written_with_the_pictures_it_shows(tmp_path):
    study = losses(mae=0.08, ranking=0.02, improved_ranking=0.0)
    place = tmp_path / "docs" / "page.md"
    publish_page(place, study, facts(), chosen(["losses", "size"]), arms(LR))
    assert [path.name for path in (tmp_path / "docs" / "images").iterdir()] == ["page_losses.svg"]
    shown = re.findall(r"!\[[^]]*\]\(([^)]*)\)", place.read_text())
    assert shown == ["images/page_losses.svg"] and (place.parent / shown[0]).is_file()


def test_a_page_that_cannot_be_written_is_a_message(tmp_path):
    (tmp_path / "docs").write_text("a file in the way")
    with pytest.raises(RunError, match=r"page\.md was not written: .*--page"):
        publish_page(tmp_path / "docs" / "page.md", losses(mae=0.08), facts(), chosen(["losses"]), arms(LR))
