import io
import os
import random
import warnings
import zipfile
from collections import OrderedDict

import pytest
import torch

from model.tensor_files import load_strictly, read_tensors

LONG = 70_000
FORMS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def saved(value, *, zipped):
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def rewritten(data, change, *, compression=zipfile.ZIP_STORED):
    """The zip with `change(name, content)` in place of every entry."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))
    return buffer.getvalue()


def refusal(tmp_path, data):
    """The message about a file; it names the file and has one line."""
    path = tmp_path / "weights.pth"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"weights\.pth") as error:
        read_tensors(path)
    assert type(error.value) is ValueError
    message = str(error.value)
    assert message.isprintable() and len(message) < 400 + len(str(path))
    assert "weights_only" not in message, "torch's advice to read without protection must not reach the user"
    return message


class Command:
    """What a hostile pickle holds: a call that makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@FORMS
@pytest.mark.parametrize("under_key", [True, False])
def test_code_in_a_file_does_not_run(tmp_path, zipped, under_key):
    trace = tmp_path / "trace"
    state = {"weight": torch.zeros(2), "bias": Command(trace)}
    message = refusal(tmp_path, saved({"state_dict": state} if under_key else state, zipped=zipped))
    assert "mkdir" in message
    assert not trace.exists()


@FORMS
def test_a_file_cut_anywhere_is_refused(tmp_path, zipped):
    data = saved({"weight": torch.randn(5, 3)}, zipped=zipped)
    for length in range(0, len(data), 17):
        refusal(tmp_path, data[:length])


@FORMS
def test_a_damaged_file_gives_tensors_or_one_kind_of_error(tmp_path, zipped):
    data = saved({"state_dict": OrderedDict(a=torch.randn(3, 2), b=torch.arange(4)), "epoch": 3}, zipped=zipped)
    draw, path = random.Random(0), tmp_path / "weights.pth"
    outcomes = set()
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(draw.randrange(1, 4)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path.write_bytes(damaged)
        try:
            with warnings.catch_warnings(action="ignore"):
                state, _ = read_tensors(path)
        except ValueError as error:
            outcomes.add((type(error), "weights.pth" in str(error)))
        else:
            outcomes.add(all(isinstance(tensor, torch.Tensor) for tensor in state.values()))
    assert outcomes == {(ValueError, True), True}


@FORMS
def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(tmp_path, zipped):
    def claim(_, content):
        return content.replace(b"J" + LONG.to_bytes(4, "little"), b"J" + (2**31 - 1).to_bytes(4, "little"))

    data = saved({"weight": torch.zeros(LONG)}, zipped=zipped)
    assert "size" in refusal(tmp_path, rewritten(data, claim) if zipped else claim("", data))


def test_a_compressed_zip_is_refused_before_it_unpacks(tmp_path):
    data = saved({"weight": torch.zeros(LONG)}, zipped=True)
    bomb = rewritten(data, lambda _, content: content, compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < len(data) / 50
    assert "torch.save did not write" in refusal(tmp_path, bomb)


def test_a_compressed_zip_is_refused_even_where_it_is_as_large_as_its_content(tmp_path):
    data = saved({f"weight{n}": torch.arange(40.0) for n in range(51)}, zipped=True)
    packed = rewritten(data, lambda _, content: content, compression=zipfile.ZIP_DEFLATED)
    assert len(packed) > 51 * 160
    assert "torch.save did not write" in refusal(tmp_path, packed)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([torch.zeros(1)], "holds a list"),
        (torch.zeros(1), "holds a Tensor"),
        ({"state_dict": 3}, "other things"),
        ({"state_dict": {"epoch": 3}}, "other things"),
        ({1: torch.zeros(1), "a": torch.zeros(1)}, "other things"),
        ({"a": torch.zeros(2, device="meta")}, "other things"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path, value, message):
    assert message in refusal(tmp_path, saved(value, zipped=True))


def test_what_is_no_file_of_torch_is_refused(tmp_path):
    for data in (b"", b"PK\x03\x04", b"\x80\x02}q\x00.", b"<html>quota exceeded</html>" * 50):
        refusal(tmp_path, data)
    with pytest.raises(ValueError, match="No such file"):
        read_tensors(tmp_path / "nowhere.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": None}, "lacks 1 tensors .'weight'"),
        ({"extra\x1b[2J": torch.zeros(1)}, r"the unknown 1 tensors .'extra\\x1b"),
        ({"bias": torch.zeros(3)}, "another shape of 1 tensors .'bias'"),
        ({"bias": torch.zeros(2, dtype=torch.complex64)}, "no real numbers in 1 tensors .'bias'"),
    ],
)
def test_tensors_that_do_not_fit_are_named_and_nothing_is_loaded(change, message):
    net = torch.nn.Linear(4, 2)
    before = net.weight.clone()
    state = {"weight": torch.ones(2, 4), "bias": torch.ones(2)} | change
    state = {name: tensor for name, tensor in state.items() if tensor is not None}
    with pytest.raises(ValueError, match=f"file does not fit the layer: .*{message}"):
        load_strictly(net, state, "file", "the layer")
    assert torch.equal(net.weight, before)
