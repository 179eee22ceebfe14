import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from shards.errors import ShardError
from shards.index import ROW, ShardIndex, encode_index, members_digest, scan_tar, split_members


def make_tar(path: Path, members: list[tuple[str, bytes]], **fields: object) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for field, value in fields.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(content))


MEMBERS = [
    ("a.jpg", b"picture" * 200),
    ("a.json", b"{}"),
    ("b.disparity.png", b""),
    ("b.jpg", b"x" * 512),
    ("c.jpg", b"y" * 513),
]


def test_the_rows_of_a_tar_cut_out_its_samples(tmp_path: Path) -> None:
    make_tar(tmp_path / "x.tar", MEMBERS)
    rows = scan_tar(tmp_path / "x.tar", shard=3)
    raw = (tmp_path / "x.tar").read_bytes()
    found = []
    for shard, digest, offset, length in rows.tolist():
        key, members = split_members(raw[offset : offset + length])
        assert shard == 3
        assert members_digest(key, members) == digest
        found += [(f"{key}.{extension}", content) for extension, content in members.items()]
    assert found == MEMBERS


def test_the_digest_sees_names_contents_and_borders_but_not_the_order() -> None:
    digests = [
        members_digest("a", {"x": b"1", "y": b"2"}),
        members_digest("b", {"x": b"1", "y": b"2"}),
        members_digest("a", {"x": b"12", "y": b""}),
        members_digest("a", {"x": b"2", "y": b"1"}),
        members_digest("a", {"x": b"1"}),
    ]
    assert len(set(digests)) == len(digests)
    assert members_digest("a", {"y": b"2", "x": b"1"}) == digests[0]


def test_an_index_file_is_mapped_and_checked(tmp_path: Path) -> None:
    rows = np.array([(0, 1, 0, 1024), (1, 2**32 - 1, 2**40, 2048)], dtype=ROW)
    path = tmp_path / "x.index"
    path.write_bytes(encode_index(rows))
    index = ShardIndex.open(path)
    assert isinstance(index.rows, np.memmap)
    assert len(index) == 2
    assert index.row(1) == (1, 2**32 - 1, 2**40, 2048)
    assert path.stat().st_size == 32 + 2 * 24
    path.write_bytes(encode_index(rows[:0]))
    assert len(ShardIndex.open(path)) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "bytes, but 2 rows need"),
        (lambda data: data + b"\0", "bytes, but 2 rows need"),
        (lambda data: data[:16] + b"\xff" * 8 + data[24:], "rows need"),
        (lambda data: data[:8] + b"\2" + data[9:], "version 2"),
        (lambda data: b"ZIP" + data[3:], "not an index"),
        (lambda data: data[:20], "not an index"),
    ],
)
def test_a_damaged_index_is_refused(tmp_path: Path, change, message: str) -> None:
    path = tmp_path / "x.index"
    path.write_bytes(change(encode_index(np.zeros(2, dtype=ROW))))
    with pytest.raises(ShardError, match=message):
        ShardIndex.open(path)


def test_a_cut_tar_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    make_tar(tmp_path / "x.tar", MEMBERS)
    raw = (tmp_path / "x.tar").read_bytes()
    end = raw.rindex(b"y") // 512 * 512 + 512  # the two zero blocks begin here
    for length in [*range(0, end + 1024, 100), end, end + 512, end + 1023]:
        (tmp_path / "y.tar").write_bytes(raw[:length])
        with pytest.raises(ShardError, match=r"truncated|damaged"):
            scan_tar(tmp_path / "y.tar")
    (tmp_path / "y.tar").write_bytes(raw[: end + 1024])
    assert len(scan_tar(tmp_path / "y.tar")) == 3


def test_any_flipped_bit_of_a_header_is_refused(tmp_path: Path) -> None:
    make_tar(tmp_path / "x.tar", MEMBERS[:1])
    raw = (tmp_path / "x.tar").read_bytes()
    rng = np.random.default_rng(0)
    for at in [*rng.integers(0, 512, 60).tolist(), 0, 100, 124, 135, 148, 156]:
        damaged = bytearray(raw)
        damaged[at] ^= 1 << int(rng.integers(0, 7))
        with pytest.raises(ShardError):
            split_members(bytes(damaged[:2048]))


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.BLKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE],
)
def test_only_plain_files_are_read(tmp_path: Path, kind: bytes) -> None:
    make_tar(tmp_path / "x.tar", [("a.jpg", b"")], type=kind, linkname="/etc/passwd")
    raw = (tmp_path / "x.tar").read_bytes()
    with pytest.raises(ShardError, match="only plain files"):
        scan_tar(tmp_path / "x.tar")
    with pytest.raises(ShardError, match="only plain files"):
        split_members(raw[:512])


@pytest.mark.parametrize(
    "name",
    ["/a.jpg", "../a.jpg", "a//b.jpg", "a/../b.jpg", "a", ".jpg", "a.", "a..jpg", "a\\b.jpg", "a\n.jpg", "a/._b.jpg"],
)
def test_member_names_are_plain(tmp_path: Path, name: str) -> None:
    make_tar(tmp_path / "x.tar", [(name, b"1")])
    with pytest.raises(ShardError, match=r"KEY\.EXTENSION"):
        scan_tar(tmp_path / "x.tar")


def test_sizes_that_lie_are_refused(tmp_path: Path) -> None:
    for size in (2**20, 2**33 - 1):
        info = tarfile.TarInfo("a.jpg")
        info.size = size
        header = info.tobuf(tarfile.USTAR_FORMAT)
        with pytest.raises(ShardError, match="reaches beyond"):
            split_members(header + bytes(512))
        (tmp_path / "x.tar").write_bytes(header + bytes(2048))
        with pytest.raises(ShardError, match=r"truncated|has more than"):
            scan_tar(tmp_path / "x.tar")


def test_a_range_of_two_samples_repeats_or_too_many_members_is_refused(tmp_path: Path) -> None:
    cases = {
        "two samples": [("a.jpg", b"1"), ("b.jpg", b"1")],
        "comes twice": [("a.jpg", b"1"), ("a.jpg", b"2")],
        "too many": [(f"a.{number}", b"") for number in range(65)],
    }
    for message, members in cases.items():
        make_tar(tmp_path / "x.tar", members)
        with pytest.raises(ShardError, match=message):
            split_members((tmp_path / "x.tar").read_bytes()[: 1024 * len(members)])
    with pytest.raises(ShardError, match="empty"):
        split_members(b"")


def test_a_sample_in_two_pieces_is_refused(tmp_path: Path) -> None:
    make_tar(tmp_path / "x.tar", [("a.jpg", b"1"), ("b.jpg", b"1"), ("a.json", b"1")])
    with pytest.raises(ShardError, match="not adjacent"):
        scan_tar(tmp_path / "x.tar")


def test_a_missing_tar_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"gone\.tar: cannot read it: No such file"):
        scan_tar(tmp_path / "gone.tar")
    with pytest.raises(ShardError, match=r"gone\.index: cannot read"):
        ShardIndex.open(tmp_path / "gone.index")
    assert list(tmp_path.iterdir()) == []
