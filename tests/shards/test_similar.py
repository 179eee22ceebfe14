from pathlib import Path

import pytest

from shards.similar import similar_path


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    for name in ("runs/web/checkpoints", "runs/wild", "pictures", ".hidden"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "photo.jpg").touch()
    (tmp_path / "photo.txt").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("runs/wep", "runs/web"),
        ("run/web", "runs/web"),
        ("run/web/checkpoints", "runs/web/checkpoints"),
        ("run/new", "runs"),
        ("foto.jpg", "photo.jpg"),
        ("pictuers", "pictures"),
    ],
)
def test_a_close_name_is_proposed(folder: Path, wrong: str, meant: str) -> None:
    assert similar_path(wrong) == f" (did you mean '{meant}'?)"
    assert similar_path(folder / wrong) == f" (did you mean '{folder / meant}'?)"


@pytest.mark.parametrize("wrong", ["photo.jpg", "elsewhere", "hidden", "/none/of/it", "runs/zebra", "", "a\0b"])
def test_nothing_else_is(folder: Path, wrong: str) -> None:
    assert similar_path(wrong) == ""


def test_only_what_suits(folder: Path) -> None:
    assert similar_path("photo.tx", lambda path: path.suffix == ".jpg") == " (did you mean 'photo.jpg'?)"
    assert similar_path("pictuers", Path.is_file) == ""
