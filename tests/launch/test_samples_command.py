import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from launch.cli import run_command
from launch.samples import main
from pipeline.data.config import DataConfig
from pipeline.data.loader import TrainStream
from pipeline.eval.sample_sheet import sample_sheet
from shards.config import PackConfig, PairsConfig, ShardsConfig
from shards.errors import ShardError
from shards.index import ROW
from shards.pack import pack
from shards.sources.config import SyntheticSourceConfig


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = str(tmp_path_factory.mktemp("samples") / "data")
    source = SyntheticSourceConfig(kind="synthetic", train=4, val=0, height_px=96, width_px=128)
    pack(PackConfig(out=out, source=source, shards=ShardsConfig(workers=1, pairs=PairsConfig(num_pairs=100))))
    return out


def test_a_sheet_of_the_pictures_of_a_step_is_written(
    dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "sheet.png"
    settings = [f"data.train={dataset}", "train.size=64", "train.batch_size=3", "train.steps=5", f"run={tmp_path}/run"]
    sheets = []
    for step in ("1", "1", "2"):
        assert main(["--out", str(out), "--step", step, "--pictures", "2", *settings]) == 0
        sheets.append(np.asarray(Image.open(out)))
    assert f"{out}: 2 of the 3 pictures of step 2" in capsys.readouterr().out
    assert sheets[0].ndim == 3
    assert len(np.unique(sheets[0].reshape(-1, 3), axis=0)) > 500
    np.testing.assert_array_equal(sheets[0], sheets[1])
    assert sheets[0].shape != sheets[2].shape or (sheets[0] != sheets[2]).any()
    assert not (tmp_path / "run").exists()


def test_the_pictures_are_those_of_the_step_and_no_others_are_prepared(dataset: str, tmp_path: Path) -> None:
    settings = [f"data.train={dataset}", "data.num_workers=0", "train.size=64", "train.batch_size=3", "train.steps=5"]
    data = DataConfig(train=dataset, num_workers=0)
    stream = TrainStream(data, size_hw=(64, 64), seed=0, batch_size=3, micro_batch_size=None, rank=0, world_size=1)
    (whole,) = next(stream.steps(2))
    stream.close()
    shown = {name: values[:2] for name, values in whole.items() if name != "replaced"}
    broken = tmp_path / "broken"
    shutil.copytree(dataset, broken)
    rows = np.fromfile(broken / "train.index", dtype=ROW, offset=32)
    with next(broken.glob("train-*.tar")).open("r+b") as file:
        file.seek(int(rows["offset"][int(whole["sample"][2])]))
        file.write(bytes(512))
    settings[0] = f"data.train={broken}"
    out = tmp_path / "sheet.PNG"
    assert (
        main(["--out", str(out), "--step", "3", "--pictures", "2", "train.seed=0", f"run={tmp_path}/run", *settings])
        == 0
    )
    np.testing.assert_array_equal(np.asarray(Image.open(out)), sample_sheet([shown]))
    with pytest.raises(ShardError, match="sample"):
        main(["--out", str(out), "--step", "3", "--pictures", "3", "train.seed=0", f"run={tmp_path}/run", *settings])


def test_a_mistake_ends_with_one_message(dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [f"data.train={dataset}", "train.size=64", "train.batch_size=3", "train.steps=5", f"run={tmp_path}/run"]
    blocked = tmp_path / "file"
    blocked.write_text("x")
    assert run_command(main, ["--out", str(blocked / "sheet.png"), *settings]) == 2
    assert "cannot write there" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["--out", "x.png", "--step", "0", *settings])
    assert caught.value.code == 2
    with pytest.raises(SystemExit) as caught:
        main(["--out", f"{tmp_path}/x.jpg", *settings])
    assert caught.value.code == 2
    assert "name a file that ends in .png" in capsys.readouterr().err
