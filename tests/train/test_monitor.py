import io
import logging
import math
import os
import random
import shutil
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.train.append import AppendFile, read_lines
from pipeline.train.config import MonitorConfig
from pipeline.train.grid import pair_sheet, picture_grid, picture_row
from pipeline.train.metrics_log import MetricsLog, read_metrics
from pipeline.train.monitor import Monitor
from pipeline.train.progress import StepRecord, Stopwatch, format_step_line
from pipeline.train.samples_log import ConsumedSample, read_samples

from . import damages


def record(step=150, **changes):
    figures = {
        "step": step,
        "total_steps": 1200,
        "samples_seen": step * 8,
        "loss": 0.43124,
        "lr": 9.6e-5,
        "grad_norm": 1.3249,
        "images_per_s": 21.44,
        "data_wait_share": 0.0312,
        "eta_seconds": 2472.4,
        "hours_left": 10.21,
    }
    return StepRecord(**{**figures, **changes})


def test_step_line():
    assert format_step_line(record()) == (
        "step 150/1200 | loss 0.4312 | lr 9.6e-05 | grad 1.32 | 21.4 img/s | data 3.1% | ETA 0:41:12 | "
        "budget left 10.2 h"
    )


def test_step_line_before_anything_is_known_and_after_something_went_wrong():
    unknown = record(
        loss=math.nan, images_per_s=None, data_wait_share=None, eta_seconds=None, hours_left=None, grad_norm=math.inf
    )
    assert format_step_line(unknown) == ("step 150/1200 | loss - | lr 9.6e-05 | grad inf | - img/s | data - | ETA -")
    wrong = format_step_line(record(memory_gib=3.24, empty_steps=1, overflowed_steps=2))
    assert wrong.endswith("GPU 3.2 GiB | budget left 10.2 h | 1 steps without pairs | 2 steps overflowed")


def test_stopwatch_leaves_out_warm_up_and_all_that_is_not_a_step():
    now = [0.0]
    watch = Stopwatch(warm_up_seconds=5, now=lambda: now[0])

    def step(wait, work):
        with watch.waiting():
            now[0] += wait
        now[0] += work
        watch.step_done()

    step(3, 3)
    assert watch.lap().steps == 0
    step(1, 2)
    now[0] += 100
    step(2, 2)
    lap = watch.lap()
    assert (lap.steps, lap.seconds, lap.wait_seconds) == (2, 7, 3)
    assert watch.lap().steps == 0
    assert watch.overall == lap


def test_metrics_come_back_and_sessions_are_counted(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for session in (1, 2, 3):
        log = MetricsLog(path, resume_step=100)
        assert log.session == session
        log.write({"step": session, "train/loss": math.nan if session == 2 else 0.5})
        log.close()
    assert [(entry["step"], entry["session"], entry["train/loss"]) for entry in read_metrics(path)] == [
        (1, 1, 0.5),
        (2, 2, None),
        (3, 3, 0.5),
    ]


def test_steps_done_again_and_a_torn_line_are_cut_at_resume(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, resume_step=0)
    for step in range(1, 8):
        log.write({"step": step})
    log.close()
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        MetricsLog(path, resume_step=4).close()
        intact = min(4, sum(len(b"".join(lines[:n])) <= cut for n in range(1, 8)))
        assert path.read_bytes() == b"".join(lines[:intact])


def test_damaged_lines_do_not_hide_the_others(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "session": 1}\n\xff\x00{\n[1]\n17\n{"step": "x"}\n{"step": 2, "session": 4}\n')
    assert [entry["step"] for entry in read_metrics(path)] == [1, 2]
    log = MetricsLog(path, resume_step=5)
    assert log.session == 5
    log.close()


@pytest.mark.parametrize(
    "line",
    [
        b'{"step": 3, "session": 1' + b"0" * 400 + b"}",
        b'{"step": 3, "session": -1}',
        b'{"step": 3.0, "session": 1}',
        b'{"step": true, "session": 1}',
        b'{"step": 3, "session": 1',
        b"[" * 100_000,
        b"{" * 1000 + b"\0" * 100_000,
    ],
)
def test_a_line_that_no_session_wrote_is_damage(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "session": 1}\n' + line + b'\n{"step": 2, "session": 4}\n')
    log = MetricsLog(path, resume_step=5)
    log.close()
    assert (log.session, log.reached_step, log.damaged_lines) == (5, 2, 1)
    assert path.read_bytes() == b'{"step": 1, "session": 1}\n{"step": 2, "session": 4}\n'


def test_only_damage_in_the_middle_of_a_log_makes_it_be_written_anew(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [b'{"step": %d, "session": 1}\n' % step for step in range(1, 10)]
    for damage, resume_step in ((b"", 4), (b"\0" * 9000, 4), (b"", 20), (b'{"step"', 20)):
        path.write_bytes(b"".join(lines) + damage)
        before = path.stat().st_ino
        MetricsLog(path, resume_step=resume_step).close()
        assert path.stat().st_ino == before
        assert path.read_bytes() == b"".join(lines[:resume_step])
    path.write_bytes(b"".join([lines[0], b"\0\n", *lines[1:]]))
    MetricsLog(path, resume_step=4).close()
    assert path.read_bytes() == b"".join(lines[:4])
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_log_is_read_line_by_line_however_long_it_and_its_lines_are(tmp_path):
    path = tmp_path / "metrics.jsonl"
    line = b'{"step": 1, "session": 1, "note": "' + b"x" * 4000 + b'"}\n'
    with path.open("wb") as file:
        for _ in range(5000):
            file.write(line)
        file.write(b"x" * (30 << 20))
    tracemalloc.start()
    log = MetricsLog(path, resume_step=5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    log.close()
    assert path.stat().st_size == 5000 * len(line)
    # A line may have 4 MiB, of which a few copies are held while it is read.
    assert peak < 16 << 20


def test_lines_of_any_bytes_come_back_in_order(tmp_path):
    path, draw = tmp_path / "log", random.Random(2)
    assert list(read_lines(path)) == []
    for size in (0, 1, 2, 50, 3000):
        content = bytes(draw.choice(b"a\n\0\xff") for _ in range(size))
        path.write_bytes(content)
        lines = list(read_lines(path))
        assert b"".join(line.text for line in lines) == content
        assert [line.end for line in lines] == list(np.cumsum([len(line.text) for line in lines]))
        assert all(line.is_whole for line in lines[:-1])


def test_a_record_is_in_the_file_whole_or_not_at_all(tmp_path, monkeypatch):
    file = AppendFile(tmp_path / "log")
    file.append(b"first\n")
    write = os.write

    def full_after_three_bytes(descriptor, data):
        if len(data) <= 3:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[: len(data) - 3])

    monkeypatch.setattr(os, "write", full_after_three_bytes)
    with pytest.raises(OSError, match="No space"):
        file.append(b"second\n")
    assert (tmp_path / "log").read_bytes() == b"first\n"
    monkeypatch.undo()
    file.append(b"third\n")
    file.close()
    assert (tmp_path / "log").read_bytes() == b"first\nthird\n"


def read_tensorboard(folder):
    events = EventAccumulator(str(folder))
    logger = logging.getLogger("tensorboard")
    logger.setLevel(logging.ERROR)
    events.Reload()
    return events


def test_a_resumed_run_has_each_point_once_in_all_logs(tmp_path):
    config = MonitorConfig()
    with Monitor(tmp_path, config, total_steps=1200, resume_step=0) as monitor:
        for step in (10, 20, 30, 40):
            monitor.step(record(step, loss=1.0))
    with Monitor(tmp_path, config, total_steps=1200, resume_step=20) as monitor:
        for step in (30, 40, 50):
            monitor.step(record(step, loss=2.0))
        monitor.evaluation({"val/whdr": 0.25}, {}, 50)
    expected = [(10, 1.0), (20, 1.0), (30, 2.0), (40, 2.0), (50, 2.0)]
    lines = list(read_metrics(tmp_path / "metrics.jsonl"))
    assert [(line["step"], line["train/loss"]) for line in lines if "train/loss" in line] == expected
    assert lines[-1] == {"step": 50, "val/whdr": 0.25, "session": 2}
    events = read_tensorboard(tmp_path / "tb")
    assert [(point.step, point.value) for point in events.Scalars("train/loss")] == expected
    assert events.Scalars("val/whdr")[0].value == 0.25
    assert {"train/lr", "perf/images_per_s", "perf/data_wait", "health/grad_norm"} <= set(events.Tags()["scalars"])


def test_the_log_names_no_machine(tmp_path):
    with Monitor(tmp_path, MonitorConfig(), total_steps=10, resume_step=0) as monitor:
        monitor.step(record())
    (event_file,) = (tmp_path / "tb").iterdir()
    assert os.uname().nodename not in event_file.name


def test_a_disk_that_takes_nothing_is_said_once_and_ends_no_run(tmp_path, monkeypatch, caplog):
    with Monitor(tmp_path, MonitorConfig(), total_steps=10, resume_step=0) as monitor:
        monitor.step(record(1))

        def full(descriptor, data):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        for step in (2, 3):
            monitor.step(record(step))
        monkeypatch.undo()
        monitor.step(record(4))
    warnings = [entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING]
    assert len([text for text in warnings if "metrics.jsonl" in text and "No space left" in text]) == 1
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1, 4]
    assert [point.step for point in read_tensorboard(tmp_path / "tb").Scalars("train/loss")] == [1, 4]


def test_a_run_folder_that_cannot_be_written_ends_no_run(tmp_path, caplog):
    (tmp_path / "metrics.jsonl").mkdir()
    (tmp_path / "tb").write_bytes(b"")
    (tmp_path / "pictures").write_bytes(b"")
    with Monitor(tmp_path, MonitorConfig(), total_steps=10, resume_step=0) as monitor:
        monitor.step(record(1))
        monitor.pictures({"val/pictures": np.zeros((8, 8, 3), np.uint8)}, 1)
    assert len([entry for entry in caplog.records if entry.levelno == logging.WARNING]) == 3


def test_pictures_keep_the_latest_file_and_all_in_tensorboard(tmp_path):
    with Monitor(tmp_path, MonitorConfig(), total_steps=10, resume_step=0) as monitor:
        for step, value in ((1, 0), (2, 255)):
            monitor.pictures({"val/pictures": np.full((16, 24, 3), value, np.uint8)}, step)
        monitor.describe({"run": "x"}, {"python": "3"})
    files = list((tmp_path / "pictures").iterdir())
    assert [file.name for file in files] == ["latest.jpg"]
    assert np.asarray(Image.open(files[0])).min() > 250
    events = read_tensorboard(tmp_path / "tb")
    assert [point.step for point in events.Images("val/pictures")] == [1, 2]
    decoded = Image.open(io.BytesIO(events.Images("val/pictures")[1].encoded_image_string))
    assert decoded.size == (24, 16)


@pytest.mark.parametrize("shape", [(60, 90), (500, 80), (3, 400)])
def test_pairs_are_drawn_green_where_right_and_red_where_wrong(shape):
    image = np.full((*shape, 3), 128, np.uint8)
    ramp = np.linspace(0, 1, shape[1], dtype=np.float32)[None].repeat(shape[0], 0)
    pairs = np.array([[1, 1, 1, shape[1] - 2, 1]], np.int16)

    def colours(prediction):
        row = picture_row(image, ramp, ramp > 0.5, prediction, pairs)
        assert row.shape == (192, 1024, 3)
        panel = row[:, 768:].astype(int)
        red, green = panel[..., 0], panel[..., 1]
        return ((green - red) > 40).any(), ((red - green) > 40).any()

    assert colours(ramp) == (True, False)
    assert colours(-ramp) == (False, True)
    assert picture_grid([picture_row(image, None, None, ramp, pairs[:0])] * 2).shape == (384, 1024, 3)


def test_a_sheet_of_pairs_says_how_many_are_wrong_and_takes_any_shape():
    pairs = np.array([[1, 1, 1, 8, 1], [2, 8, 2, 1, -1], [3, 1, 3, 8, -1], [4, 1, 4, 8, 0]], np.int16)
    ramp = np.linspace(0, 1, 10, dtype=np.float32)
    shapes = [(10, 10), (300, 10), (5, 2000)]
    pictures = [
        (np.full((*shape, 3), 99, np.uint8), np.resize(ramp, shape), pairs[pairs[:, :4].max(axis=1) < min(shape)])
        for shape in shapes
    ]
    sheet = pair_sheet(pictures)
    assert sheet.shape == pair_sheet([*pictures, (*pictures[0][:2], pairs[3:])]).shape  # two rows of two
    assert sheet.shape[1] == 978
    assert sheet.shape[0] < 900


def consumed(step):
    return [ConsumedSample(0, 0, step, f"key-{step}")]


def monitored(folder, steps, resume_step, **changes):
    config = MonitorConfig(log_samples=True, **changes)
    with Monitor(folder, config, total_steps=100, resume_step=resume_step) as monitor:
        for step in steps:
            monitor.step(record(step))
            monitor.samples(step, consumed(step))
        monitor.pictures({"val/pictures": np.zeros((8, 8, 3), np.uint8)}, steps[-1])
        return monitor.session


def test_steps_that_are_done_again_are_said_once_and_marked(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="depthrank")
    monitored(tmp_path, range(1, 8), 0)
    assert "done again" not in caplog.text
    monitored(tmp_path, range(5, 6), 4)
    assert "steps 5–7 are done again" in caplog.text
    caplog.clear()
    # The cut figures no longer tell how far the first session was, the samples still do.
    assert monitored(tmp_path, range(6, 10), 5) == 3
    assert "steps 6–7 are done again" in caplog.text
    marks = [(one.step, one.session, one.again) for one in read_samples(tmp_path / "samples.jsonl")]
    assert marks == [
        *((step, 1, False) for step in range(1, 8)),
        (5, 2, True),
        (6, 3, True),
        (7, 3, True),
        (8, 3, False),
        (9, 3, False),
    ]
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == list(range(1, 10))


def test_samples_are_only_logged_where_that_is_asked_for(tmp_path):
    with Monitor(tmp_path, MonitorConfig(), total_steps=10, resume_step=0) as monitor:
        monitor.samples(1, consumed(1))
    assert not (tmp_path / "samples.jsonl").exists()


def test_a_full_disk_costs_lines_of_samples_only(tmp_path, monkeypatch, caplog):
    with Monitor(tmp_path, MonitorConfig(log_samples=True), total_steps=10, resume_step=0) as monitor:
        monitor.samples(1, consumed(1))
        write = os.write

        def full_after_nine_bytes(descriptor, data):
            if len(data) <= 9:
                raise OSError(28, "No space left on device")
            return write(descriptor, data[:9])

        monkeypatch.setattr(os, "write", full_after_nine_bytes)
        for step in (2, 3):
            monitor.samples(step, consumed(step))
        monkeypatch.undo()
        monitor.samples(4, consumed(4))
    assert [one.step for one in read_samples(tmp_path / "samples.jsonl")] == [1, 4]
    assert caplog.text.count("samples.jsonl: cannot be") == 1


@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.jsonl"])
@pytest.mark.parametrize("damage", damages.ALL)
def test_no_damage_of_a_log_keeps_a_run_from_going_on(tmp_path, damage, name, caplog):
    monitored(tmp_path / "whole", range(1, 9), 0)
    for trial in range(1 if damage in damages.UNUSABLE or damage is damages.long_line else 4):
        run, draw = tmp_path / str(trial), random.Random(trial)
        shutil.copytree(tmp_path / "whole", run)
        events = {path: path.read_bytes() for path in (run / "tb").iterdir()}
        damage(run / name, draw)
        caplog.clear()
        monitored(run, range(6, 11), 5)
        said = [entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING]
        assert len(said) == (damage not in damages.HARMLESS)
        assert all(str(run / name) in text for text in said)
        logs = {"metrics.jsonl": read_metrics, "samples.jsonl": read_samples}
        for log, read in logs.items():
            if log == name and damage in damages.UNUSABLE:
                continue
            steps = [getattr(one, "step", None) or one["step"] for one in read(run / log)]
            assert steps[-5:] == list(range(6, 11))
        assert all(path.read_bytes() == content for path, content in events.items())
        assert len(list((run / "tb").iterdir())) == 2


@pytest.mark.parametrize("damage", [damage for damage in damages.ALL if damage is not damages.missing])
def test_event_files_of_earlier_sessions_are_never_opened(tmp_path, damage, caplog):
    monitored(tmp_path, range(1, 9), 0)
    (event_file,) = (tmp_path / "tb").iterdir()
    damage(event_file, random.Random(0))
    before = event_file.lstat()
    monitored(tmp_path, range(6, 11), 5)
    assert caplog.text == ""
    after = event_file.lstat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)
    (new_file,) = {path for path in (tmp_path / "tb").iterdir() if "session0002" in path.name}
    (tmp_path / "alone").mkdir()
    shutil.copy(new_file, tmp_path / "alone")
    assert [point.step for point in read_tensorboard(tmp_path / "alone").Scalars("train/loss")] == list(range(6, 11))


def test_logs_that_a_full_disk_kept_shut_at_the_start_are_opened_later(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.train.monitor.REOPEN_SECONDS", 0.0)
    monitored(tmp_path, range(1, 4), 0)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"step": 2', b'"step" 2'))  # so that it must be written anew
    config = MonitorConfig(log_samples=True)

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        patch.setattr(os, "write", full)
        monitor = Monitor(tmp_path, config, total_steps=9, resume_step=3)
        assert not list(tmp_path.glob(".*"))
        assert len(list((tmp_path / "tb").iterdir())) == 1
    with monitor:
        for step in (4, 5):
            monitor.step(record(step))
            monitor.samples(step, consumed(step))
    assert [(line["step"], line["session"]) for line in read_metrics(path)] == [(1, 1), (3, 1), (4, 2), (5, 2)]
    assert [one.step for one in read_samples(tmp_path / "samples.jsonl")] == [1, 2, 3, 4, 5]
    assert [point.step for point in read_tensorboard(tmp_path / "tb").Scalars("train/loss")] == [1, 2, 3, 4, 5]
