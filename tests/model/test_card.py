import pytest
import yaml

from model.card import Dataset, Facts, Training, model_card
from model.config import LossConfig, ModelConfig

FACTS = Facts(ModelConfig(encoder="resnet18", decoder_channels=64), num_parameters=1_234_567, size_hw=(128, 160))
FIGURES = {"val/whdr": 0.09507734, "val/pairs": 92125, "val/own|`figure": 0.12345678, "step": 1400}
TRAINING = Training(
    step=1400,
    samples_seen=22400,
    hours=0.0889,
    hardware="2 x Tesla T4",
    software="torch 2.15.0",
    datasets=(Dataset("web-shards", "52a69b", 2199), Dataset("more")),
    validated_on="web-shards",
    loss=LossConfig(name="improved_ranking", gradient_weight=0.2),
    settings={"optimizer": "adamw"},
    latest=FIGURES,
    best={**FIGURES, "val/whdr": 0.08, "step": 700},
)


def header(card: str) -> dict:
    """The YAML block at the top."""
    start, block, _ = card.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(block)


def cells(card: str, name: str) -> list[str]:
    """The cells of the table row that begins with `name`."""
    (row,) = (line for line in card.splitlines() if line.startswith(f"| {name}"))
    return [cell.strip() for cell in row.replace("\\|", "¦").strip("|").split("|")[1:]]


def test_the_hub_finds_what_it_looks_for():
    found = header(model_card(FACTS, TRAINING))
    assert found == {
        "license": "unknown",
        "library_name": "depthrank",
        "pipeline_tag": "depth-estimation",
        "tags": ["monocular-depth", "relative-depth", "redweb", "resnet18", "safetensors"],
        "metrics": ["whdr"],
    }


def test_figures_stand_with_their_steps():
    card = model_card(FACTS, TRAINING)
    assert "|  | last, step 1,400 | best, step 700 |" in card
    assert cells(card, "WHDR") == ["9.51 %", "8.00 %"]
    assert cells(card, "pairs judged") == ["92,125", "92,125"]
    assert "The weights are those of step 1,400." in card
    assert cells(card, "parameters") == ["1,234,567"]
    assert cells(card, "time") == ["5 min"]
    assert "equal and the hardest 75% of the unequal" in card
    assert "at 4 scales, weighted 0.2" in card


def test_what_is_not_known_is_left_out():
    card = model_card(FACTS, Training())
    assert "Nothing is recorded about how these weights were made." in card
    assert "## Evaluation" not in card
    assert "metrics" not in header(card)
    assert "None" not in card
    partly = model_card(FACTS, Training(step=5, latest={"val/whdr": 0.5}))
    assert "| length | 5 steps |" in partly
    assert "|  | last |" in partly


@pytest.mark.parametrize(
    "evil",
    [
        "</code><script>alert(1)</script>",
        "`` ` ``",
        "a | b |",
        "x\n---\nlicense: mit\n# Title",
        "a\x00\u202eb",
        "x" * 9999,
    ],
)
def test_values_from_files_cannot_leave_their_place(evil):
    training = Training(
        step=1,
        hardware=evil,
        software=evil,
        datasets=(Dataset(evil, evil),),
        validated_on=evil,
        settings={"optimizer": evil},
        latest={evil: 1.0},
    )
    card, plain = model_card(FACTS, training), model_card(FACTS, Training(step=1))
    assert header(card) == header(plain)
    assert [line for line in card.splitlines() if line.startswith("#")] == [
        line for line in plain.replace("## Limits", "## Evaluation\n## Limits").splitlines() if line.startswith("#")
    ]
    assert len(card) < len(plain) + 3000
    assert all(character.isprintable() for character in card.replace("\n", ""))
    for line in card.splitlines():
        if line.startswith("| optimizer"):
            assert line.startswith("| optimizer | `") and line.endswith("` |") and line.count("`") == 2
            assert len(line.replace("\\|", "").split("|")) == 4


@pytest.mark.parametrize("license_id", ["apache-2.0", "cc-by-nc-4.0", "gpl-3.0+", "other", "no", "1.5"])
def test_a_stated_licence_is_in_the_header_and_in_the_text(license_id):
    card = model_card(Facts(FACTS.config, 1, (32, 32), license_id), Training())
    assert header(card)["license"] == license_id
    assert f"as stated by whoever exported them: `{license_id}`" in card


@pytest.mark.parametrize("license_id", ["", "MIT licence", 'mit"\nx: y', "-mit", "x" * 61])
def test_what_is_no_identifier_is_refused(license_id):
    with pytest.raises(ValueError, match="identifier of a licence"):
        model_card(Facts(FACTS.config, 1, (32, 32), license_id), Training())


@pytest.mark.parametrize(
    ("name", "loss", "keys"),
    [
        ("redweb", None, ["xian2018"]),
        ("redweb", LossConfig(gradient_weight=0.2), ["xian2018", "xian2020"]),
        ("sgr", LossConfig(name="mae", gradient_weight=0.5), ["xian2018", "xian2020"]),
        ("midas", LossConfig(), ["xian2018", "ranftl2022"]),
        ("redweb", LossConfig(name="ssi_mae", gradient_weight=0.5), ["xian2018", "ranftl2022"]),
    ],
)
def test_the_papers_behind_network_and_loss_are_cited(name, loss, keys):
    card = model_card(Facts(ModelConfig(name=name), 1, (32, 32)), Training(loss=loss))
    assert [line.partition("{")[2][: len(key)] for line, key in zip(cited(card), keys, strict=True)] == keys


def cited(card: str) -> list[str]:
    return [line for line in card.splitlines() if line.startswith("@")]


@pytest.mark.parametrize("loss", ["ranking", "improved_ranking", "mae", "mse", "ssi_mae"])
@pytest.mark.parametrize("name", ["redweb", "sgr", "midas"])
def test_every_network_and_loss_has_its_words(name, loss):
    card = model_card(Facts(ModelConfig(name=name), 1, (32, 32)), Training(loss=LossConfig(name=loss)))
    assert "{" not in card.split("## Citation")[0].replace('{"image": image}', "")


def test_onnx_is_shown_only_where_it_is():
    without, having = (
        model_card(Facts(FACTS.config, 1, (128, 160), has_onnx=has), Training()) for has in (False, True)
    )
    assert "onnx" not in without.lower()
    assert "onnx" in header(having)["tags"]
    assert ".resize((160, 128))" in having
