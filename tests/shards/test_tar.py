import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import webdataset

from shards.errors import ShardError
from shards.index import iter_samples, members_digest, scan_tar, split_members
from shards.names import sample_key
from shards.tar import BLOCK, padded, plain_file, read_entry

LONG = "folder-of-some-depth/" * 6 + "A picture with a long name"
CONTENT = {"jpg": b"picture" * 200, "json": b"{}", "disparity.png": b"x" * 512}


def tar_bytes(entries, *, tar_format=tarfile.PAX_FORMAT, pax_headers=None, **fields):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format, pax_headers=pax_headers) as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content or b"")
            if content is None:
                info.type = tarfile.DIRTYPE
            for field, value in fields.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(content or b""))
    return buffer.getvalue()


def samples_of(data):
    """Samples from a walk, each read again from its byte range as training does."""
    found = {}
    for sample in iter_samples(io.BytesIO(data)):
        key, members = split_members(data[sample.offset : sample.offset + sample.length])
        assert (key, members) == (sample.key, sample.members)
        found[key] = members
    return found


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("mtime", [0, 1234567890, 1234567890.25])
def test_every_format_of_the_standard_library_is_read(tar_format, mtime):
    keys = ["a", "b-2", "Über/Bild", "c/d/e", LONG] if tar_format != tarfile.USTAR_FORMAT else ["a", "b-2", "c/d/e"]
    entries = [(f"{key}.{extension}", content) for key in keys for extension, content in CONTENT.items()]
    data = tar_bytes(entries, tar_format=tar_format, mtime=mtime)
    expected = [key if key in ("a", "b-2") else sample_key(key) for key in keys]
    assert samples_of(data) == dict.fromkeys(expected, CONTENT)


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
def test_what_is_taken_for_a_plain_file_is_read_the_same_by_the_rules_whatever_byte_is_changed(tar_format):
    header = tar_bytes([("key.jpg", b"picture")], tar_format=tar_format)[:BLOCK]
    assert plain_file(b"before" + header, 6) == ("key.jpg", 7)
    taken = 0
    for at in range(BLOCK):
        for mend in (False, True):
            damaged = bytearray(header)
            damaged[at] ^= 0x11
            if mend:  # whoever changed it wrote the checksum too
                damaged[148:156] = b" " * 8
                damaged[148:156] = b"%06o\0 " % sum(damaged)
            plain = plain_file(bytes(damaged), 0)
            if plain is not None:
                entry = read_entry(io.BytesIO(damaged).read, "here")
                assert (entry.name, entry.size, entry.header_bytes, entry.is_file) == (*plain, BLOCK, True)
                assert mend or 148 <= at < 156
                taken += 1
    assert taken > BLOCK / 4
    assert plain_file(header[:-1], 0) is None


def test_long_names_of_ustar_are_read():
    key = "b" * 90 + "/" + "a" * 80
    assert samples_of(tar_bytes([(f"{key}.jpg", b"1")], tar_format=tarfile.USTAR_FORMAT)) == {
        sample_key(key): {"jpg": b"1"}
    }


def test_webdataset_s_own_writer_with_its_defaults(tmp_path):
    with webdataset.TarWriter(str(tmp_path / "x.tar"), encoder=False) as writer:
        for key in ("one", "Two", "three"):
            writer.write({"__key__": key, **CONTENT})
    data = (tmp_path / "x.tar").read_bytes()
    assert b"mtime=" in data  # it writes a pax header before each member
    assert samples_of(data) == dict.fromkeys(["one", sample_key("Two"), "three"], CONTENT)


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar program")
@pytest.mark.parametrize("options", [["--format=gnu"], ["--format=pax"], ["--format=ustar"], []])
def test_a_folder_packed_by_the_tar_program(tmp_path: Path, options):
    for key in ("a", "deep/b"):
        for extension, content in CONTENT.items():
            path = tmp_path / "set" / f"{key}.{extension}"
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_bytes(content)
    done = subprocess.run(
        ["tar", *options, "--sort=name", "-cf", tmp_path / "x.tar", "-C", tmp_path / "set", "."],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"this tar program knows other options: {done.stderr}")
    data = (tmp_path / "x.tar").read_bytes()
    assert samples_of(data) == {"a": CONTENT, sample_key("deep/b"): CONTENT}
    assert len(scan_tar(tmp_path / "x.tar")) == 2


def test_folders_and_global_headers_are_passed_over_between_samples_only():
    entries = [("set", None), ("set/a.jpg", b"1"), ("set/b", None), ("set/b/c.jpg", b"2")]
    data = tar_bytes(entries, pax_headers={"comment": "made somewhere"})
    assert list(samples_of(data)) == [sample_key("set/a"), sample_key("set/b/c")]
    split = tar_bytes([("a.jpg", b"1"), ("b", None), ("a.json", b"{}")])
    with pytest.raises(ShardError, match="not adjacent"):
        samples_of(split)
    with pytest.raises(ShardError, match="folder"):
        split_members(split[: 3 * 512])


def test_the_same_key_whatever_the_tar_is_called_and_wherever_it_is_read():
    plain = members_digest("a", {"jpg": b"1"})
    for name in ("a.jpg", "./a.jpg", "././a.jpg", "a.JPG"):
        (sample,) = iter_samples(io.BytesIO(tar_bytes([(name, b"1")])))
        assert members_digest(sample.key, sample.members) == plain


def test_a_capital_letter_that_makes_two_members_one_is_refused():
    with pytest.raises(ShardError, match="comes twice"):
        samples_of(tar_bytes([("a.jpg", b"1"), ("a.JPG", b"2")]))


def record(text):
    """`LENGTH KEY=VALUE`, the length counting itself."""
    length = next(length for length in range(99) if len(f"{length} \n") + len(text) == length)
    return b"%d %s\n" % (length, text)


def headers(records, *, kind=b"x", name="a.jpg", size=1, length=None):
    """An extended header with these raw records, and the plain member after it."""
    info = tarfile.TarInfo("PaxHeader")
    info.type = kind
    info.size = len(records) if length is None else length
    member = tarfile.TarInfo(name)
    member.size = size
    body = records + bytes(-len(records) % 512)
    return info.tobuf(tarfile.USTAR_FORMAT) + body + member.tobuf(tarfile.USTAR_FORMAT) + b"1".ljust(512, b"\0")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (headers(record(b"size=999")), "two sizes"),
        (headers(record(b"size=2")), "two sizes"),
        (headers(b"9 path=a\n0 path=b\n"), "damaged"),
        (headers(b"-9 path=a\n"), "damaged"),
        (headers(b"99 path=a\n"), "damaged"),
        (headers(b"7 path\n"), "damaged"),
        (headers(b"5 =\n\n"), "damaged"),
        (headers(record(b"GNU.sparse.major=1")), "sparse"),
        (headers(record(b"hdrcharset=BINARY")), "not UTF-8"),
        (headers(record(b"path=\xff\xfe.a")), "not UTF-8"),
        (headers(b"", length=2**33 - 1), "the most is"),
        (headers(b"", length=70_000), "the most is"),
        (headers(b"", length=5000), "truncated"),
        (headers(record(b"path=b.jpg"), kind=b"g"), "whole tar"),
        (headers(b"9 path=b\n", kind=b"K"), "only plain files"),
        (headers(b"9 path=b\n", kind=b"X"), "only plain files"),
        (headers(b"b.jpg\0", kind=b"L")[:1024] * 5, "too many"),
        (headers(b"b.jpg\0", kind=b"L")[:1024] + bytes(1024), "end mark"),
        (headers(record(b"path=../a.jpg")), "KEY.EXTENSION"),
        (headers(record(b"path=/etc/a.b")), "KEY.EXTENSION"),
        (b"\x1f\x8b" + bytes(600), "gunzip"),
        (b"v7 header".ljust(512, b"\0"), "damaged"),
    ],
)
def test_hostile_extended_headers_are_refused_both_ways(raw, message):
    with pytest.raises(ShardError, match=message):
        list(iter_samples(io.BytesIO(raw + bytes(1024))))
    if message != "truncated":
        with pytest.raises(ShardError, match=message if message != "end mark" else "end mark|damaged"):
            split_members(raw)


def test_a_header_says_where_its_content_is():
    data = tar_bytes([("n" * 150 + ".jpg", b"content")], tar_format=tarfile.GNU_FORMAT)
    file = io.BytesIO(data)
    entry = read_entry(file.read, "byte 0")
    assert entry == ("n" * 150 + ".jpg", 7, 512 * 3, True)
    assert file.tell() == entry.header_bytes
    assert file.read(padded(entry.size)) == b"content".ljust(512, b"\0")
    assert read_entry(file.read, "byte 2048") is None


def test_files_of_macos_are_refused_with_advice():
    with pytest.raises(ShardError, match=r"macOS.*--format=ustar"):
        samples_of(tar_bytes([("._a.jpg", b"1"), ("a.jpg", b"1")]))


def test_any_flipped_byte_of_a_header_is_refused():
    data = bytearray(tar_bytes([("a.jpg", b"1")], mtime=1.5))
    assert len(samples_of(bytes(data))) == 1
    for at in [*range(0, 148), *range(156, 512), *range(1024, 1172), *range(1180, 1536)]:
        data[at] ^= 0x41
        with pytest.raises(ShardError):
            samples_of(bytes(data))
        data[at] ^= 0x41
