"""What each check says of facts that are given to it."""

import pytest

from pipeline.checkup.devices import advised_precision, driver_finding, environment_findings
from pipeline.checkup.finding import Finding, describe, guarded
from pipeline.checkup.places import limit_findings, room_finding, shared_memory_finding
from pipeline.checkup.software import requirement_findings, torch_pair
from pipeline.checkup.speed import decoder_finding, jpeg_rate, network_finding, reaches


def test_missing_and_old_packages_are_named_with_what_to_type():
    needed = ["torch>=2.6", "Pillow>=11.0", "numpy>=1.26", 's3fs>=2024.6; extra == "s3"']
    found = list(requirement_findings(needed, {"torch": "2.5.1", "numpy": "2.0"}))
    assert [(finding.state, finding.what, finding.mend) for finding in found] == [
        ("wrong", "torch", 'pip install "torch>=2.6"'),
        ("wrong", "Pillow", 'pip install "Pillow>=11.0"'),
    ]
    assert "is 2.5.1, needed is torch>=2.6" in found[0].text
    (good,) = requirement_findings(needed, {"torch": "2.6.0+cu124", "numpy": "2.0", "pillow": "11.0"})
    assert good == Finding.ok("packages", "all 3 that are needed, in versions that fit")


@pytest.mark.parametrize(
    ("torch", "torchvision", "needs", "says"),
    [
        ("2.6.0+cu124", "0.21.0+cu124", ["numpy", "torch==2.6.0"], None),
        ("2.6.0", "0.21.0", [], None),
        ("2.7.0+cu124", "0.21.0+cu124", ["torch==2.6.0"], "needs torch==2.6.0, but torch is 2.7.0"),
        ("2.6.0+cu124", "0.21.0+cpu", ["torch==2.6.0"], "built for cpu and torch for cu124"),
    ],
)
def test_wheels_that_were_not_made_for_each_other(torch, torchvision, needs, says):
    found = torch_pair(torch, torchvision, needs)
    if says is None:
        assert found is None
    else:
        assert found.state == "wrong"
        assert says in found.text
        assert "torch torchvision" in found.mend


@pytest.mark.parametrize(
    ("build", "driver", "sees_gpu", "state"),
    [
        ("12.8", (13, 0), True, "ok"),
        ("12.8", (12, 2), True, "ok"),
        ("13.0", (12, 8), True, "wrong"),
        ("12.8", None, True, "wrong"),
        ("12.8", None, False, "note"),
        (None, (12, 8), True, "wrong"),
    ],
)
def test_the_driver_must_be_able_to_run_what_torch_was_built_for(build, driver, sees_gpu, state):
    found = driver_finding(build, driver, sees_gpu=sees_gpu)
    assert found.state == state
    assert bool(found.mend) == (state == "wrong")


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((6, 1), "fp32")])
def test_precision_by_generation(capability, precision):
    assert advised_precision(capability) == precision


def test_what_the_environment_hides_is_said():
    assert list(environment_findings({"ACCELERATE_MIXED_PRECISION": "no"})) == []
    (hidden,) = environment_findings({"CUDA_VISIBLE_DEVICES": ""})
    assert "hides every GPU" in hidden.text
    (some,) = environment_findings({"CUDA_VISIBLE_DEVICES": "1"})
    assert "hides" not in some.text
    (set_by_launcher,) = environment_findings({"ACCELERATE_MIXED_PRECISION": "bf16"})
    assert "ACCELERATE_MIXED_PRECISION=bf16" in set_by_launcher.text
    assert list(environment_findings({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "auto"})) == []


@pytest.mark.parametrize(("value", "is_cpu"), [("1", True), ("true", True), ("yes", True), ("false", False)])
def test_a_cpu_that_was_asked_for_is_said_and_refused_by_nobody(value, is_cpu):
    told = list(environment_findings({"ACCELERATE_USE_CPU": value}))
    assert [("uses no GPU" in finding.text, "refuses" in finding.text) for finding in told] == [(True, False)] * is_cpu


@pytest.mark.parametrize(("free_gb", "state"), [(0.5, "wrong"), (3, "note"), (50, "ok")])
def test_room(tmp_path, free_gb, state):
    assert room_finding(tmp_path, free_gb).state == state


@pytest.mark.parametrize(("size", "state"), [(None, "note"), (64 << 20, "note"), (1 << 30, "ok")])
def test_shared_memory(size, state):
    assert shared_memory_finding(size).state == state


def test_limits():
    assert [finding.state for finding in limit_findings(256, -1)] == ["wrong"]
    assert [finding.state for finding in limit_findings(-1, 10**6)] == ["ok", "wrong"]
    assert [finding.state for finding in limit_findings(20_000, 10**12)] == ["ok"]


def test_decoding_is_measured_and_judged():
    assert jpeg_rate(0.05) > 0
    assert decoder_finding(20).state == "note"
    assert decoder_finding(200) == Finding.ok("JPEG decoder", "200 pictures of 640 x 480 a second and core")


def test_without_a_network_the_weights_at_hand_are_named(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "resnet50-0676ba61.pth").touch()
    found = network_finding(False, tmp_path)
    assert found.state == "note"
    assert "resnet50-0676ba61.pth" in found.text
    assert network_finding(True, tmp_path).state == "ok"


def test_a_server_that_does_not_answer_is_not_waited_for():
    assert not reaches("127.0.0.1", port=1, seconds=0.5)


def test_a_check_that_fails_is_a_finding_and_hides_nothing():
    def check():
        yield Finding.ok("a", "fine")
        raise OSError("strange machine\nwith details")

    found = list(guarded("b", check))
    assert found == [Finding.ok("a", "fine"), Finding.note("b", "could not be looked at: strange machine")]
    assert describe([*found, Finding.wrong("long name", "bad", "mend it")]).splitlines() == [
        "ok     a          fine",
        "note   b          could not be looked at: strange machine",
        "WRONG  long name  bad",
        "                  -> mend it",
    ]
