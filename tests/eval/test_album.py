import os

import pytest
from PIL import Image

from pipeline.eval.album import find_pictures, refuse_overwriting, still_to_do
from shards.errors import DataError


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def stems(album):
    return [str(job.stem) for job in album.jobs]


def test_pictures_of_folders_are_found_in_order_and_the_rest_counted(tmp_path):
    for name in ("b.JPG", "a.png", "sub/c.webp", "notes.txt", ".hidden.png", ".git/d.png", "a.colour.png", "z.mp4"):
        touch(tmp_path / name)
    album = find_pictures([tmp_path])
    assert [(job.path.name, str(job.stem)) for job in album.jobs] == [
        ("a.png", "a"),
        ("b.JPG", "b"),
        ("c.webp", "sub/c"),
    ]
    text = album.passed_over_text()
    assert text == "2 other files passed over: notes.txt, z.mp4; 1 file of earlier predictions left alone"


def test_two_pictures_of_one_stem_keep_their_extension(tmp_path):
    for name in ("a.png", "a.jpg", "b.jpg"):
        touch(tmp_path / name)
    assert stems(find_pictures([tmp_path])) == ["a.jpg", "a.png", "b"]


def test_a_picture_given_twice_is_predicted_once(tmp_path, monkeypatch):
    picture = touch(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    assert len(find_pictures([picture, picture, tmp_path, "a.png", "./*.png"]).jobs) == 1


def test_equal_names_of_two_folders_are_kept_apart_by_their_folders(tmp_path):
    for name in ("x/a.png", "y/a.png", "x/deep/b.png", "y/c.png"):
        touch(tmp_path / name)
    assert stems(find_pictures([tmp_path / "x", tmp_path / "y"])) == ["x/a.png", "deep/b", "y/a.png", "c"]
    assert stems(find_pictures([tmp_path / "y" / "a.png", tmp_path / "x" / "a.png"])) == ["y/a.png", "x/a.png"]


def test_names_stay_apart_whatever_is_given(tmp_path):
    given = ["a.jpg", "a.png", "a.jpg.png", "p/a.jpg", "p/a.jpg.jpg", "q/p/a.jpg", "p/p/a.jpg"]
    paths = [touch(tmp_path / name) for name in given]
    for arguments in (paths, [tmp_path], [tmp_path / "p", *paths], [tmp_path / "q", tmp_path, tmp_path / "p"]):
        album = find_pictures(arguments)
        assert len(album.jobs) == len(given)
        assert len(set(stems(album))) == len(given)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("album/*.jpg", ["a"]),
        ("album/**/*.jpg", ["a", "trip/b"]),
        ("album/**", ["a", "trip/b", "trip/old/c"]),
        ("*/trip/[b-z].*", ["album/trip/b"]),
        ("al*", ["album/a", "album/trip/b", "album/trip/old/c"]),
        ("album/tri?/old/*", ["trip/old/c"]),
    ],
)
def test_patterns_that_the_shell_did_not_expand_mirror_what_is_below_their_fixed_part(tmp_path, pattern, expected):
    for name in ("album/a.jpg", "album/trip/b.jpg", "album/trip/old/c.png", "album/trip/x.txt", "other/d.jpg"):
        touch(tmp_path / name)
    assert sorted(stems(find_pictures([str(tmp_path / pattern)]))) == expected


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    touch(tmp_path / "a[1].jpg")
    touch(tmp_path / "a1.jpg")
    assert stems(find_pictures([tmp_path / "a[1].jpg"])) == ["a[1]"]


def test_a_named_file_without_a_pictures_extension_is_looked_into(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "scan", "PNG")
    touch(tmp_path / "notes.txt")
    album = find_pictures([tmp_path / "scan", tmp_path / "notes.txt"])
    assert stems(album) == ["scan"]
    assert album.passed_over_text() == "1 other file passed over: notes.txt"


def test_linked_folders_are_not_followed_and_cannot_loop(tmp_path):
    touch(tmp_path / "a.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert stems(find_pictures([tmp_path])) == ["a"]


def test_a_dead_link_among_others_is_left_to_the_reader_to_name(tmp_path):
    (tmp_path / "dead.jpg").symlink_to(tmp_path / "gone.jpg")
    for given in (tmp_path, tmp_path / "dead.jpg", str(tmp_path / "*.jpg")):
        assert stems(find_pictures([given])) == ["dead"]


def test_missing_paths_and_empty_folders_are_named(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such picture or folder"):
        find_pictures([tmp_path / "nowhere"])
    with pytest.raises(DataError, match=r"\*\.jpg: nothing matches"):
        find_pictures([tmp_path / "*.jpg"])
    touch(tmp_path / "photo.heic")
    with pytest.raises(DataError, match=r"no picture there .*; 1 other file passed over: photo\.heic"):
        find_pictures([tmp_path])


def test_no_picture_is_overwritten(tmp_path):
    touch(tmp_path / "a.jpg")
    jobs = find_pictures([tmp_path / "a.jpg"]).jobs
    refuse_overwriting(jobs, tmp_path, ("png16", "colour"))
    odd = [jobs[0]._replace(path=tmp_path / "a.colour.png")]
    with pytest.raises(DataError, match=r"a\.colour\.png: is one of the pictures"):
        refuse_overwriting(odd, tmp_path / "sub" / "..", ("png16", "colour"))


def test_what_is_there_and_newer_than_its_picture_need_not_be_done_again(tmp_path):
    pictures = [touch(tmp_path / "in" / name) for name in ("a.png", "b.png", "c.png", "d.png")]
    for name in ("a.inverse_depth.png", "a.inverse_depth.npy", "b.inverse_depth.png", "c.inverse_depth.png"):
        touch(tmp_path / "out" / name)
    touch(tmp_path / "out" / "c.inverse_depth.npy")
    os.utime(pictures[2], (2**33, 2**33))
    jobs = find_pictures(pictures).jobs
    assert [str(job.stem) for job in still_to_do(jobs, tmp_path / "out", ("png16", "npy"))] == ["b", "c", "d"]
    assert [str(job.stem) for job in still_to_do(jobs[:2], tmp_path / "out", ("png16",))] == []
