import io

import numpy as np
from PIL import Image

from shards.contact_sheet import ContactSheet
from shards.format import Sample
from shards.images import encode_jpeg


def sample(key, colour=(200, 30, 30), name=None):
    picture = np.full((60, 90, 3), colour, dtype=np.uint8)
    disparity = np.tile(np.linspace(1, 60_000, 90).astype(np.uint16), (60, 1))
    disparity[:, :9] = 0
    meta = {"name": name or f"{key}_L.jpg", "eyes": "swapped", "figures": {"eyes_z": -5.2, "vertical_share": 0.01}}
    return Sample(key=key, image=encode_jpeg(picture, 90), meta=meta, disparity=disparity)


def opened(sheet):
    return np.asarray(Image.open(io.BytesIO(sheet.render())))


def test_picture_and_disparity_stand_side_by_side():
    sheet = ContactSheet()
    sheet.offer(sample("a"))
    page = opened(sheet)
    np.testing.assert_allclose(page[60, 40], (200, 30, 30), atol=8)
    assert page[60, 97].max() < 40
    assert page[60, 175, 0] > page[60, 175, 2]
    assert (page[:28, :200] < 128).any()


def test_the_choice_is_bounded_and_does_not_depend_on_the_order():
    keys = [f"picture-{i}" for i in range(40)]
    sheets = []
    for order in (keys, keys[::-1]):
        sheet = ContactSheet(limit=8)
        for key in order:
            sheet.offer(sample(key, name="same"))
        sheets.append(sheet.render())
    assert sheets[0] == sheets[1]
    assert Image.open(io.BytesIO(sheets[0])).size == (4 * 408, 2 * 230)


def test_strange_names_and_no_samples_are_no_trouble():
    sheet = ContactSheet()
    assert opened(sheet).size > 0
    sheet.offer(sample("a", name="日本\\udce9<script>" + "x" * 500))
    assert opened(sheet).size > 0
