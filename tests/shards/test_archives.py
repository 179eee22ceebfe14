import io
import pickle
import stat
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from shards.errors import DecodeError, SourceError
from shards.sources.archives import TarFiles, ZipFiles
from shards.sources.census import plain_name
from shards.sources.files import LocalFolder, open_files

FILES = {"a.jpg": b"first", "deep/er/b c.png": b"second" * 1000, "deep/caf\u00e9.txt": b"third"}


def write_zip(path, entries, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries:
            archive.writestr(name, data)


def write_tar(path, entries, kind=tarfile.PAX_FORMAT):
    with tarfile.open(path, "w", format=kind) as archive:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def write(path, entries):
    (write_zip if path.suffix == ".zip" else write_tar)(path, entries)
    return open_files(str(path))


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "X.ZIP"])
def test_members_are_listed_and_read_like_files_of_a_folder(tmp_path, name):
    if name == "X.ZIP":
        write_zip(tmp_path / name, FILES.items())
    else:
        write(tmp_path / name, FILES.items())
    folder = tmp_path / "folder"
    for member, data in FILES.items():
        (folder / member).parent.mkdir(parents=True, exist_ok=True)
        (folder / member).write_bytes(data)
    files, reference = open_files(str(tmp_path / name)), open_files(str(folder))
    assert isinstance(reference, LocalFolder)
    assert files.listing().names == reference.listing().names == tuple(sorted(FILES))
    for copy in (files, pickle.loads(pickle.dumps(files))):
        for member in FILES:
            assert copy.read(member) == reference.read(member)
    for each in (files, reference):
        with pytest.raises(DecodeError, match=r"^a\.jpg: 5 bytes, more than 4"):
            each.read("a.jpg", max_bytes=4)
        with pytest.raises(DecodeError, match=r"^nowhere\.jpg: "):
            each.read("nowhere.jpg")


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("length", [50, 140, 200])
def test_long_names_of_every_tar_format(tmp_path, kind, length):
    name = "/".join(["f" * 48] * (length // 49)) + "/a.jpg"
    write_tar(tmp_path / "x.tar", [(name, b"data"), ("b.jpg", b"other")], kind)
    files = TarFiles(str(tmp_path / "x.tar"))
    assert files.listing().names == tuple(sorted([name, "b.jpg"]))
    assert files.read(name) == b"data"


HOSTILE = [
    "/etc/passwd",
    "../up.jpg",
    "a/../../up.jpg",
    "C:/windows.jpg",
    "back\\slash.jpg",
    "new\nline.jpg",
    "x" * 1500,
]


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_unsafe_names_are_passed_over_and_named(tmp_path, suffix):
    files = write(tmp_path / f"x{suffix}", [(name, b"x") for name in [*HOSTILE, "./good.jpg", "a//./b.jpg"]])
    assert files.listing().names == ("a/b.jpg", "good.jpg")
    assert files.listing().passed_over == {"unsafe_name": sorted(HOSTILE)}
    assert files.read("good.jpg") == b"x"
    for name in HOSTILE:
        with pytest.raises(DecodeError, match="no such member"):
            files.read(name)


def test_plain_names():
    assert plain_name("./a/b.jpg") == "a/b.jpg"
    assert plain_name("a..b/c.jpg") == "a..b/c.jpg"
    assert [plain_name(name) for name in ("", ".", "/", "..", "a/..", "c:x", "a\x00b", "a\x7f")] == [None] * 8


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_hidden_members_are_named_once(tmp_path, suffix):
    names = ["a.jpg", "._a.jpg", "__MACOSX/b.jpg", "__MACOSX/deep/c.jpg", "x/.git/d", "x/.git/e"]
    files = write(tmp_path / f"x{suffix}", [(name, b"x") for name in names])
    assert files.listing().names == ("a.jpg",)
    assert files.listing().passed_over == {"hidden": ["._a.jpg", "__MACOSX", "x/.git"]}


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_members_of_one_name_the_last_counts_as_when_unpacking(tmp_path, suffix):
    files = write(tmp_path / f"x{suffix}", [("a.jpg", b"old"), ("b.jpg", b"b"), ("./a.jpg", b"new")])
    assert files.listing().names == ("a.jpg", "b.jpg")
    assert files.listing().passed_over == {"duplicate_name": ["a.jpg"]}
    assert files.read("a.jpg") == b"new"


def test_links_and_devices_of_a_tar_are_passed_over(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, kind in [
            ("s", tarfile.SYMTYPE),
            ("h", tarfile.LNKTYPE),
            ("f", tarfile.FIFOTYPE),
            ("c", tarfile.CHRTYPE),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        info = tarfile.TarInfo("good.jpg")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    listing = TarFiles(str(tmp_path / "x.tar")).listing()
    assert listing.names == ("good.jpg",)
    assert listing.passed_over == {"no_plain_file": ["c", "f", "h", "s"]}


def test_links_encrypted_and_oddly_packed_members_of_a_zip_are_passed_over(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("lzma.jpg", b"x" * 100, zipfile.ZIP_LZMA)
        archive.writestr("folder/", b"")
        archive.writestr("secret.jpg", b"secret")
        archive.writestr("good.jpg", b"x")
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(b"secret.jpg"))
    data[entry + 8] |= 1  # the flag of encryption
    path.write_bytes(data)
    listing = ZipFiles(str(path)).listing()
    assert listing.names == ("good.jpg",)
    assert listing.passed_over == {
        "no_plain_file": ["link.jpg"],
        "unknown_compression": ["lzma.jpg"],
        "encrypted": ["secret.jpg"],
    }


def test_zip_bombs_are_refused_unread(tmp_path):
    entries = [("bomb.png", bytes(8 << 20)), ("mask.png", bytes(1 << 20)), ("good.jpg", b"x")]
    files = write(tmp_path / "x.zip", entries)
    assert files.listing().names == ("good.jpg", "mask.png")  # a small empty mask is no bomb
    assert files.listing().passed_over == {"compression_ratio": ["bomb.png"]}
    with pytest.raises(DecodeError, match="no such member"):
        files.read("bomb.png")


def test_a_zip_member_that_lies_about_its_size_gives_no_more_than_it_said(tmp_path):
    path = tmp_path / "x.zip"
    write_zip(path, [("a.png", bytes(100_000))])
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 1000)
    path.write_bytes(data)
    with pytest.raises(DecodeError, match=r"a\.png: damaged in the archive: Bad CRC"):
        ZipFiles(str(path)).read("a.png")


def test_a_damaged_zip_member_costs_only_itself(tmp_path):
    path = tmp_path / "x.zip"
    write_zip(path, [("a.png", np.random.default_rng(0).bytes(5000)), ("b.png", b"fine")])
    data = bytearray(path.read_bytes())
    data[2000] ^= 0xFF
    path.write_bytes(data)
    files = ZipFiles(str(path))
    with pytest.raises(DecodeError, match=r"^a\.png: damaged in the archive"):
        files.read("a.png")
    assert files.read("b.png") == b"fine"


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_empty_members_are_named(tmp_path, suffix):
    with pytest.raises(DecodeError, match=r"^a\.jpg: empty file"):
        write(tmp_path / f"x{suffix}", [("a.jpg", b"")]).read("a.jpg")


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_a_missing_or_foreign_archive_is_one_clear_message(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    with pytest.raises(SourceError, match=rf"source\.path: .*x\{suffix}: there is no such file"):
        open_files(str(path)).listing()
    path.write_bytes(b"no archive at all" * 100)
    with pytest.raises(SourceError, match=rf"source\.path: .*x\{suffix}.*(zip file|damaged)"):
        open_files(str(path)).listing()


def test_every_cut_and_every_flipped_header_byte_of_a_tar_is_noticed_or_harmless(tmp_path):
    path = tmp_path / "x.tar"
    write_tar(path, [("a.jpg", b"a" * 600), ("b.jpg", b"b" * 600)], tarfile.USTAR_FORMAT)
    whole = path.read_bytes()
    second = whole.index(b"b.jpg")
    for cut in (100, 512, 700, second + 200, second + 512 + 100):
        path.write_bytes(whole[:cut])
        with pytest.raises(SourceError, match="truncated"):
            TarFiles(str(path)).listing()
    for at in range(second, second + 500, 7):
        damaged = bytearray(whole)
        damaged[at] ^= 0x15
        path.write_bytes(damaged)
        with pytest.raises(SourceError, match="damaged"):
            TarFiles(str(path)).listing()
    path.write_bytes(whole[:second] + bytes(512) + whole[second:])
    with pytest.raises(SourceError, match="more after it"):
        TarFiles(str(path)).listing()


def test_a_tar_header_that_claims_much_takes_no_memory(tmp_path):
    path = tmp_path / "x.tar"
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.XHDTYPE, 1 << 40
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(SourceError, match=r"extended header .* 1099511627776 bytes"):
        TarFiles(str(path)).listing()
    info.type = tarfile.REGTYPE
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(SourceError, match="truncated"):
        TarFiles(str(path)).listing()


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.tar.xz", "x.7z"])
def test_archives_without_random_access_are_refused_with_the_way_out(tmp_path, name):
    with pytest.raises(SourceError, match=r"x\.\S+: .*gunzip.*\.zip"):
        open_files(str(tmp_path / name))
    with tarfile.open(tmp_path / "misnamed.tar", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    with pytest.raises(SourceError, match="compressed; unpack it first"):
        open_files(str(tmp_path / "misnamed.tar")).listing()


def test_a_folder_may_be_called_like_an_archive(tmp_path):
    (tmp_path / "x.zip").mkdir()
    (tmp_path / "x.zip" / "a.jpg").write_bytes(b"x")
    assert open_files(str(tmp_path / "x.zip")).listing().names == ("a.jpg",)


def test_two_tars_in_one_file_are_no_shorter_collection(tmp_path):
    for name in ("a", "b"):
        write_tar(tmp_path / f"{name}.tar", [(f"{name}.jpg", b"x")])
    both = tmp_path / "both.tar"
    both.write_bytes((tmp_path / "a.tar").read_bytes() + (tmp_path / "b.tar").read_bytes())
    with pytest.raises(SourceError, match="two tars"):
        open_files(str(both)).listing()
