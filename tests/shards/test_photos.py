import numpy as np
import pytest
from PIL import Image

from shards.config import PackConfig, ShardsConfig
from shards.errors import DecodeError, SourceError
from shards.pack import pack
from shards.sources.config import SyntheticSourceConfig
from shards.sources.photos import Photos, sample
from shards.sources.synthetic import SyntheticSource

H, W = 24, 36
WORLDS = ("still_life", "pile", "road")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three photographs, each of one channel only, as no texture is."""
    folder = tmp_path_factory.mktemp("photos")
    noise = np.random.default_rng(0).integers(60, 255, (3, H, W), dtype=np.uint8)
    for channel in range(3):
        picture = np.zeros((H, W, 3), dtype=np.uint8)
        picture[..., channel] = noise[channel]
        Image.fromarray(picture).save(folder / f"{channel}.png")
    (folder / "notes.txt").write_text("no photograph")
    return folder


def config(folder, **settings):
    return SyntheticSourceConfig(
        kind="synthetic", height_px=48, width_px=64, worlds=WORLDS, labels="exact", photos=str(folder), **settings
    )


def test_at_the_centre_of_a_pixel_its_colour_is_seen(folder):
    photo = Photos(str(folder)).pyramid(0)
    y, x = np.mgrid[0:H, 0:W]
    seen = sample(photo, (x.ravel() + 0.5) / H, (y.ravel() + 0.5) / H, np.full(H * W, 1 / H))
    assert np.allclose(seen.T.reshape(H, W, 3) * 255, photo[0], atol=1e-3)


@pytest.mark.parametrize(("move_x", "move_y"), [(2, 0), (-4, 0), (0, 2), (6, -2)])
def test_beyond_its_edges_a_photograph_is_mirrored_again_and_again(folder, move_x, move_y):
    photo = Photos(str(folder)).pyramid(1)
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, W / H, 200), rng.uniform(0, 1, 200)
    small = np.full(200, 1 / H)
    here = sample(photo, x, y, small)
    assert np.allclose(sample(photo, x + move_x * W / H, y + move_y, small), here, atol=1e-4)
    assert np.allclose(sample(photo, -x, y, small), here, atol=1e-4)
    assert np.allclose(sample(photo, x, 2 - y, small), here, atol=1e-4)


def test_from_afar_a_photograph_is_its_mean_colour(folder):
    photo = Photos(str(folder)).pyramid(2)
    rng = np.random.default_rng(2)
    near, far = (
        sample(photo, rng.uniform(0, 9, 2000), rng.uniform(0, 9, 2000), np.full(2000, size)) for size in (1 / H, 9.0)
    )
    assert far[2].std() < 0.3 * near[2].std()
    assert far[2].mean() == pytest.approx(photo[0][..., 2].mean() / 255, abs=0.02)


def test_some_worlds_show_photographs_and_some_none(folder):
    source = SyntheticSource(config(folder, train=24, val=0))
    pure = []
    for item in source.items():
        picture = source.load(item).image.astype(int)
        largest = picture.max(axis=2)
        pure.append(np.mean((np.sort(picture, axis=2)[..., 1] <= 2) & (largest > 20)))
    assert max(pure) > 0.5
    assert min(pure) < 0.05


def test_a_scene_depends_on_the_photographs_and_on_nothing_else(folder):
    item = SyntheticSource(config(folder, train=9, val=0)).items()[8]
    loaded = [SyntheticSource(config(folder, train=9, val=0)).load(item) for _ in range(2)]
    assert np.array_equal(loaded[0].image, loaded[1].image)
    plain = config(folder, train=9, val=0).model_copy(update={"photos": None})
    assert not np.array_equal(SyntheticSource(plain).load(item).image, loaded[0].image)


def test_a_folder_without_photographs_is_refused_before_anything_is_rendered(tmp_path):
    (tmp_path / "notes.txt").write_text("no photograph")
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(SourceError, match=str(path)):
            SyntheticSource(config(path)).items()


def test_a_damaged_photograph_is_named(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 and no more")
    source = SyntheticSource(config(tmp_path, train=40, val=0))
    with pytest.raises(DecodeError, match=r"broken\.jpg"):
        list(map(source.load, source.items()))


def test_of_many_photographs_the_last_ones_are_kept(folder, monkeypatch):
    monkeypatch.setattr("shards.sources.photos.MOST_KEPT", 2)
    photos = Photos(str(folder))
    first = photos.pyramid(0)
    assert photos.pyramid(0) is first
    photos.pyramid(1), photos.pyramid(2)
    assert photos.pyramid(0) is not first
    assert np.array_equal(photos.pyramid(0)[0], first[0])


def test_a_black_frame_is_no_paint(tmp_path):
    framed = np.zeros((60, 80, 3), dtype=np.uint8)
    framed[15:45] = 200
    Image.fromarray(framed).save(tmp_path / "letterbox.png")
    assert Photos(str(tmp_path)).pyramid(0)[0].shape == (30, 80, 3)


def test_shards_say_which_photographs_but_not_where_they_lie(folder, tmp_path):
    pack(PackConfig(out=str(tmp_path), source=config(folder, train=2, val=0), shards=ShardsConfig(workers=1)))
    manifest = (tmp_path / "manifest.json").read_text()
    assert f'"photos": "{folder.name}"' in manifest
    assert str(folder.parent) not in manifest
