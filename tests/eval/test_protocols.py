import json

import numpy as np
import pytest
from PIL import Image

from pipeline.eval.baselines import BASELINES
from pipeline.eval.compare import compare
from pipeline.eval.protocols.da2k import Da2kBenchmark
from pipeline.eval.protocols.diw import DiwBenchmark
from pipeline.eval.protocols.nyu import CROP_PX, NyuOrdinalBenchmark, crop, restore
from pipeline.eval.scores import measure
from pipeline.eval.torch_scale import torch_scale, torch_scale_picture
from pipeline.eval.wkdr import THRESHOLDS
from shards.errors import DataError, SourceError

RNG = np.random.default_rng(0)


def blob(image):
    """A predictor that answers with the picture's smoothed brightness, so that it differs from point to point."""
    grey = image.astype(np.float64).mean(axis=2)
    return (torch_scale(torch_scale(grey, (6, 8)), grey.shape) / 60).astype(np.float32)


def write_picture(path, height, width):
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = RNG.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))
    Image.fromarray(image).save(path, "PNG")
    return image


@pytest.fixture
def diw(tmp_path):
    """Pictures of several sizes, and their pairs as the list has them: 1-based y, x, y, x."""
    lines, pictures = [], []
    for number, (height, width) in enumerate([(100, 80), (300, 500), (240, 320), (500, 200)] * 4):
        image = write_picture(tmp_path / "DIW" / "DIW_test" / f"{number:02d}.thumb", height, width)
        y_a, y_b = RNG.integers(1, height + 1, 2)
        x_a, x_b = (1, width) if number == 0 else RNG.integers(1, width + 1, 2)
        y_b = y_a if number in (5, 6) else y_b
        sign = "><"[number % 2]
        lines += [f"./DIW_test/{number:02d}.thumb", f"{y_a},{x_a},{y_b},{x_b},{sign},{width},{height}"]
        pictures.append((image, (y_a, x_a, y_b, x_b), sign))
    (tmp_path / "DIW" / "DIW_test.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "DIW", pictures


def diw_by_the_lua_code(pictures, predict):
    """`test_model_on_DIW.lua` on depth, with its 1-based reading of the scaled output."""
    correct = 0
    for image, (y_a, x_a, y_b, x_b), sign in pictures:
        height, width = image.shape[:2]
        depth = -torch_scale(predict(torch_scale_picture(image, (240, 320))), (height, width))
        z_a, z_b = depth[y_a - 1, x_a - 1], depth[y_b - 1, x_b - 1]
        correct += (z_a - z_b) * (1 if sign == ">" else -1) > 0
    return 1 - correct / len(pictures)


def test_diw_is_the_official_codes_whdr(diw):
    folder, pictures = diw
    scores = measure({"blob": blob}, DiwBenchmark("diw=DIW", str(folder)))
    (figures,) = scores.figures(scores.members("diw"))
    assert 0 < figures[0] < 1
    assert figures[0] == pytest.approx(diw_by_the_lua_code(pictures, blob))
    assert scores.metrics[0].name == "whdr_diw_320x240"


def test_diw_counts_ties_as_errors_and_far_as_the_arrow_points(diw):
    folder, pictures = diw
    benchmark = DiwBenchmark("diw=DIW", str(folder))
    seen = []

    def flat(image):
        seen.append(image.shape)
        return np.ones(image.shape[:2], np.float32)

    scores = measure({"flat": flat, **BASELINES}, benchmark)
    figures = scores.figures(scores.members("diw"))[:, 0]
    assert figures[0] == 1
    assert set(seen) == {(240, 320, 3)}
    along_the_row = measure({"rows": lambda image: np.repeat(image[:, :1, 0] / 7, image.shape[1], axis=1)}, benchmark)
    ties = [y_a == y_b for _, (y_a, _, y_b, _), _ in pictures]
    assert along_the_row.values()[np.flatnonzero(ties)].all()
    # The lower point, of larger y, is nearer: right where ">" (A farther) goes with A above B.
    right = [(y_a < y_b) if sign == ">" else (y_a > y_b) for _, (y_a, _, y_b, _), sign in pictures]
    assert figures[1] == pytest.approx(1 - np.mean(right))


def test_published_figures_of_diw_are_marked_and_have_a_source(diw):
    folder, _ = diw
    table = compare({"blob": blob}, [DiwBenchmark("diw=DIW", str(folder))], resamples=20).table()
    lines = [line.split() for line in table.splitlines()]
    assert ["Xian", "WEB,", "zero-shot", "[1]", "14.33"] in lines
    assert ["Chen", "DIW,", "in-domain", "[1]", "22.14"] in lines
    assert "[1] Xian et al. 2018, DIW test" in table
    own = compare({"blob": blob}, [DiwBenchmark("diw_own=DIW", str(folder), own_size=True)], resamples=20).table()
    assert "14.33" not in own and "10.31" in own


def test_diw_at_the_pictures_own_size_shows_the_picture_itself(diw):
    folder, pictures = diw
    benchmark = DiwBenchmark("diw_own=DIW", str(folder), own_size=True)
    for index, (image, _, _) in enumerate(pictures):
        assert np.array_equal(benchmark.case(index).image, image)
    assert benchmark.metrics[0].name == "whdr_diw_own_size"


def test_what_diw_misses_is_said(diw):
    folder, _ = diw
    (folder / "DIW_test" / "03.thumb").unlink()
    (folder / "DIW_test" / "04.thumb").write_bytes(b"broken")
    write_picture(folder / "DIW_test" / "05.thumb", 64, 500)  # another shape than its label's
    benchmark = DiwBenchmark("diw=DIW", str(folder))
    assert "74441" in benchmark.notes[0]
    assert any("no_picture: 1, such as DIW_test.csv:7" in note for note in benchmark.notes)
    scores = measure({"blob": blob}, benchmark)
    assert [failure.name for failure in scores.failed] == ["DIW_test/04.thumb", "DIW_test/05.thumb"]
    assert len(scores.names) == 13
    with pytest.raises(SourceError):
        DiwBenchmark("diw=x", str(folder / "DIW_test"))


@pytest.fixture
def nyu(tmp_path):
    """Three validation pictures without a border, four test pictures with one; 90 pairs each."""
    root = tmp_path / "data"
    found = {}
    lists = {
        "45_NYU_validate_x.csv": (3, (60, 80)),
        "654_NYU_MITpaper_test_imgs_orig_size_points.csv": (4, (120, 160)),
    }
    for name, (count, (height, width)) in lists.items():
        lines, found[name] = ["header,line,skipped"], []
        for number in range(count):
            image = write_picture(root / name[:3] / f"{number}.png", height, width)
            points = [RNG.integers(1, side + 1, 90) for side in (height, width, height, width)]
            points[0][0], points[1][0], points[2][0], points[3][0] = 1, 1, height, width  # in the border
            relation = RNG.choice([">", "<", "="], 90)
            rows = list(zip(*(p.tolist() for p in points), relation.tolist(), strict=True))
            lines += [f"./{name[:3]}/{number}.png,1,90", *(",".join(map(str, row)) for row in rows)]
            found[name].append((image, rows))
        (root / name).write_text("\n".join(lines) + "\n")
    return root, *found.values()


def lua_rates(depth, rows, threshold):
    """`_evaluate_correctness_our` of `test_model_on_NYU.lua`."""
    correct, number = {">": 0, "<": 0, "=": 0}, {">": 0, "<": 0, "=": 0}
    for y_a, x_a, y_b, x_b, truth in rows:
        difference = depth[y_a - 1, x_a - 1] - depth[y_b - 1, x_b - 1]
        found = ">" if difference > threshold else "<" if difference < -threshold else "="
        correct[truth] += found == truth
        number[truth] += 1
    return (
        1 - sum(correct.values()) / sum(number.values()),
        1 - correct["="] / number["="],
        1 - (correct[">"] + correct["<"]) / (number[">"] + number["<"]),
    )


def lua_padded(output, height, width):
    """`inpaint_pad_output_our`, with 1-based indices on an array that has a row and a column too many."""
    resized = torch_scale(output, (height - 2 * CROP_PX + 1, width - 2 * CROP_PX + 1))
    padded = np.full((height + 1, width + 1), np.nan)
    padded[CROP_PX : height - CROP_PX + 1, CROP_PX : width - CROP_PX + 1] = resized
    rows = slice(CROP_PX, height - CROP_PX + 1)
    for i in range(1, CROP_PX + 1):
        padded[rows, i] = resized[:, 0]
        padded[rows, width - i + 1] = resized[:, -1]
    for i in range(1, CROP_PX + 1):
        padded[i, 1:] = padded[CROP_PX, 1:]
        padded[height - i + 1, 1:] = padded[resized.shape[0] + CROP_PX - 1, 1:]
    return padded[1:, 1:]


def test_the_border_is_cut_and_repeated_as_in_the_official_code():
    image = RNG.integers(0, 255, (48, 64, 3), dtype=np.uint8)
    assert np.array_equal(crop(image), image[9:38, 9:54])
    output = RNG.normal(size=(24, 32))
    np.testing.assert_allclose(restore(output, (48, 64)), lua_padded(output, 48, 64))


def test_nyu_rates_are_means_over_pictures_at_the_threshold_of_the_validation_list(nyu):
    root, validation, test = nyu
    benchmark = NyuOrdinalBenchmark("nyu=data", str(root))
    depths = [-torch_scale(blob(torch_scale_picture(image, (240, 320))), image.shape[:2]) for image, _ in validation]
    rates = [
        np.mean([lua_rates(z, rows, t) for z, (_, rows) in zip(depths, validation, strict=True)], axis=0)
        for t in THRESHOLDS
    ]
    best = THRESHOLDS[min(range(140), key=lambda place: max(rates[place][1:]))]
    assert 0.11 < best < 1.5
    tuned = benchmark.tune(blob)
    assert tuned.value == pytest.approx(best)
    assert "3 validation pictures" in tuned.note
    each = [
        lua_rates(-lua_padded(blob(torch_scale_picture(image[9:110, 9:150], (240, 320))), 120, 160), rows, best)
        for image, rows in test
    ]
    scores = measure({"blob": blob}, benchmark)
    (figures,) = scores.figures(scores.members("nyu_ordinal"))
    assert figures[:3] == pytest.approx(np.mean(each, axis=0))
    assert figures[3] == pytest.approx(np.mean([rate[0] for rate in each]))  # 90 pairs each: here both agree


def test_the_pooled_rate_weighs_pictures_by_their_pairs(nyu):
    root, _, _ = nyu
    path = root / "654_NYU_MITpaper_test_imgs_orig_size_points.csv"
    lines = path.read_text().splitlines()
    lines[1:92] = ["./654/0.png,1,9", *lines[2:11]]
    path.write_text("\n".join(lines))
    scores = measure({"blob": blob}, NyuOrdinalBenchmark("nyu=data", str(root)))
    values, (figures,) = scores.values()[:, 0], scores.figures(scores.members("nyu_ordinal"))
    assert figures[0] == pytest.approx(values[:, 0].mean())
    assert figures[3] == pytest.approx(np.average(values[:, 0], weights=[9, 90, 90, 90]))
    assert figures[3] != pytest.approx(figures[0])


def test_nyu_without_usable_validation_says_so(nyu):
    root, _, _ = nyu
    for number in range(3):
        (root / "45_" / f"{number}.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="no threshold can be chosen"):
        NyuOrdinalBenchmark("nyu=data", str(root)).tune(blob)
    (root / "45_NYU_validate_x.csv").unlink()
    with pytest.raises(SourceError, match="45_nyu_validate"):
        NyuOrdinalBenchmark("nyu=data", str(root))


def test_da2k_counts_pairs_by_scene_and_overall(tmp_path):
    annotations, expected = {}, {}
    for scene, count in (("indoor", 1), ("aerial", 3)):
        for number in range(2):
            name = f"images/{scene}/{number}.jpg"
            answer = blob(write_picture(tmp_path / "DA-2K" / name, 60, 90))
            pairs = []
            for _ in range(count):
                one, other = ([int(RNG.integers(60)), int(RNG.integers(90))] for _ in range(2))
                closer = str(RNG.choice(["point1", "point2"]))
                pairs.append({"point1": one, "point2": other, "closer_point": closer})
                near, far = (one, other) if closer == "point1" else (other, one)
                expected.setdefault(scene, []).append(bool(answer[tuple(near)] > answer[tuple(far)]))
            annotations[name] = pairs
    (tmp_path / "DA-2K" / "annotations.json").write_text(json.dumps(annotations))
    scores = measure({"blob": blob}, Da2kBenchmark("da2k=DA-2K", str(tmp_path / "DA-2K")))
    for scene, right in expected.items():
        assert scores.figures(scores.members(f"da2k/{scene}"))[0, 0] == pytest.approx(np.mean(right))
    everything = np.arange(4)
    assert scores.figures(everything)[0, 0] == pytest.approx(np.mean([*expected["indoor"], *expected["aerial"]]))
