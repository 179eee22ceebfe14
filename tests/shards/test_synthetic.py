import pickle

import numpy as np
import pytest
from pydantic import ValidationError

from shards.disparity import decode_values
from shards.errors import DecodeError
from shards.sources import Item, open_source
from shards.sources.config import SyntheticSourceConfig
from shards.sources.render import render_scene
from shards.sources.synthetic import test_scene as unseen_scene

CONFIG = SyntheticSourceConfig(kind="synthetic", train=3, val=2, height_px=48, width_px=64)


def test_items_are_the_training_scenes_then_the_validation_scenes():
    items = open_source(CONFIG).items()
    assert [item.split for item in items] == ["train"] * 3 + ["val"] * 2
    assert len({item.name for item in items}) == 5


def test_the_three_streams_have_no_scene_in_common():
    source = pickle.loads(pickle.dumps(open_source(CONFIG)))
    pictures = [source.load(item).left for item in source.items()] + [unseen_scene(CONFIG, i).left for i in range(3)]
    for first in range(len(pictures)):
        for second in range(first):
            assert not np.array_equal(pictures[first], pictures[second])


def test_more_scenes_leave_the_old_ones_as_they_were():
    more = open_source(CONFIG.model_copy(update={"train": 30}))
    item = open_source(CONFIG).items()[2]
    assert np.array_equal(more.load(item).left, open_source(CONFIG).load(item).left)


@pytest.mark.parametrize("name", ["train-scene-000003", "test-scene-000000", "other.jpg"])
def test_what_is_not_an_item_is_refused(name):
    with pytest.raises(DecodeError, match="no scene"):
        open_source(CONFIG).load(Item(name))


def test_exact_labels_are_the_renderers_own():
    config = CONFIG.model_copy(update={"labels": "exact", "worlds": ("still_life",)})
    picture = open_source(config).load(Item("train-scene-000001"))
    scene = render_scene(config.seed, 1, 48, 64, worlds=("still_life",))
    assert np.array_equal(picture.image, scene.left)
    assert picture.tolerance_kind == "ratio" and picture.meta["world"] == "still_life"
    assert decode_values(picture.codes, picture.coding) == pytest.approx(scene.disparity_px, rel=1e-3)


@pytest.mark.parametrize("worlds", [(), ("room", "room"), ("castle",)])
def test_worlds_are_known_kinds_each_once(worlds):
    with pytest.raises(ValidationError, match="worlds"):
        SyntheticSourceConfig(kind="synthetic", worlds=worlds)
