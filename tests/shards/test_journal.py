import os

import pytest

from shards.errors import ShardError
from shards.journal import Journal, Preview, Step, Write, program_digest, state_folder

STEPS = [
    Step("a.jpg", "12-34", figures={"share": 0.1 + 0.2, "size": [1, 2]}, eyes="swapped", preview=Preview(0, 10, 7)),
    Step("caf\udce9.jpg", None, reason="flat", figures={"range_share": 1e-17, "not": float("nan")}),
    Step("c.jpg", "5-6", write=Write("a", "val", 3, 512, 2048, 99, "0f" * 32)),
]


def journal(path, settings="s", program="p"):
    return Journal(path, settings=settings, program=program)


@pytest.fixture
def written(tmp_path):
    diary = journal(tmp_path / "sub" / "journal")
    assert diary.read() == []
    diary.begin(0)
    for step in STEPS:
        diary.append(step)
    diary.close()
    return diary.path


def same(steps):
    return [repr(step) for step in steps]  # a NaN equals nothing


def test_steps_come_back_as_they_were(written):
    diary = journal(written)
    assert same(diary.read()) == same(STEPS)
    assert diary.differs is None
    diary.begin(2)
    diary.append(STEPS[2])
    diary.append(STEPS[0])
    diary.close()
    assert same(journal(written).read()) == same([*STEPS, STEPS[0]])
    diary.remove()
    assert not written.exists()


def test_of_a_journal_cut_anywhere_the_whole_lines_remain(written):
    data = written.read_bytes()
    ends = [at + 1 for at, byte in enumerate(data) if byte == ord("\n")]
    for length in range(len(data)):
        os.truncate(written, 0)
        written.write_bytes(data[:length])
        diary = journal(written)
        num_whole = max(sum(end <= length for end in ends) - 1, 0)
        assert same(diary.read()) == same(STEPS[:num_whole])
        diary.begin(num_whole)
        for step in STEPS[num_whole:]:
            diary.append(step)
        diary.close()
        assert written.read_bytes() == data


def test_a_flipped_bit_never_changes_what_is_read(written):
    data = written.read_bytes()
    noticed = 0
    for at in range(len(data)):
        spoilt = bytearray(data)
        spoilt[at] ^= 1
        written.write_bytes(bytes(spoilt))
        found = same(journal(written).read())
        assert found == same(STEPS[: len(found)])
        noticed += len(found) < len(STEPS)
    assert noticed >= len(data) - 3  # an escape has two spellings


@pytest.mark.parametrize(
    ("changed", "said"), [({"settings": "t"}, "with other settings"), ({"program": "q"}, "another program")]
)
def test_a_journal_of_another_job_is_of_no_use(written, changed, said):
    diary = journal(written, **changed)
    assert diary.read() == []
    assert said in diary.differs
    diary.begin(0)
    diary.close()
    assert journal(written).read() == []


def test_where_it_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ShardError, match="cannot write the journal"):
        journal(tmp_path / "file" / "journal").begin(0)


def test_the_state_of_a_job_lies_in_the_folder_or_in_the_users_state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_folder(str(tmp_path / "out")) == tmp_path / "out"
    remote = state_folder("s3://me:secret@bucket/x")
    assert remote.parent == tmp_path / "depthrank"
    assert "secret" not in str(remote)
    assert remote != state_folder("s3://bucket/y")


def test_the_program_is_the_same_while_nothing_changes():
    assert program_digest() == program_digest.__wrapped__()
    assert len(program_digest()) == 64
