import pytest

from shards.progress import Progress, time_left


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_short_work_is_silent(capsys):
    clock = Clock()
    with Progress("pictures", clock=clock) as progress:
        for done in range(1, 10):
            clock.now += 1
            progress.show(done, 9)
    assert capsys.readouterr() == ("", "")


def test_lines_tell_rate_and_time_left_every_ten_seconds_and_at_the_end(capsys):
    clock = Clock()
    with Progress("pairs", clock=clock) as progress:
        for done in range(101, 201):
            progress.show(done, 200, what="packed", note="3 left out")  # 100 were done by an earlier start
            clock.now += 0.5
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == "packed 121/200 pairs | 2 pairs/s | 40 s left | 3 left out"
    assert lines[-1] == "packed 200/200 pairs | 2 pairs/s | 3 left out"
    assert len(lines) == 5


def test_each_stage_counts_anew_and_an_unknown_end_has_no_time_left(capsys):
    clock = Clock()
    with Progress("samples", clock=clock) as progress:
        for what in ("looked at", "copied"):
            for done in range(12):
                progress.show(done, None, what=what)
                clock.now += 1
    assert capsys.readouterr().err.splitlines() == [
        "looked at 10 samples | 1 samples/s",
        "copied 10 samples | 1 samples/s",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5340, "89 min"), (7200, "2.0 h")]
)
def test_durations(seconds: float, text: str):
    assert time_left(seconds) == text
