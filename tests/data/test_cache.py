import contextlib
import errno
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import cache as cache_module
from pipeline.data.cache import ShardCache, default_budget_bytes
from pipeline.data.eviction import eviction_order, hold, make_room, used_bytes
from pipeline.data.prefetch import Prefetcher, wanted_shards
from pipeline.data.store import ShardStore
from shards.errors import ShardError
from shards.manifest import Manifest, ShardEntry, read_manifest
from shards.reindex import reindex

from .flaky_server import flaky_server, random_faults
from .small_dataset import write_dataset

pytest.importorskip("aiohttp", reason='http needs: pip install "depthrank[http]"')
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache") / "data"
    write_dataset(folder, samples=40)
    return folder


def shards_of(folder: Path) -> list[ShardEntry]:
    return read_manifest(str(folder)).splits["train"].shards


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


FETCH = """
import sys
from pathlib import Path
from pipeline.data.cache import ShardCache
cache = ShardCache(sys.argv[1], Path(sys.argv[2]), budget_bytes=10**9, retry_seconds=30)
print("ready", flush=True)
print(cache.fetch(sys.argv[3], int(sys.argv[4]), sys.argv[5]).stat().st_size)
"""


def start_fetch(url: str, folder: Path, shard: ShardEntry) -> "subprocess.Popen[str]":
    arguments = [url, str(folder), shard.name, str(shard.bytes), shard.sha256]
    return subprocess.Popen([sys.executable, "-c", FETCH, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    "delay_s", [0.2, *(pytest.param(delay, marks=pytest.mark.slow) for delay in (0.0, 0.05, 0.1, 0.3, 0.45, 0.55))]
)
def test_a_killed_fetch_blocks_nobody_and_leaves_nothing(whole: Path, tmp_path: Path, delay_s: float) -> None:
    shard = shards_of(whole)[0]
    folder = tmp_path / "cache"
    with (
        flaky_server(whole, bytes_per_s=shard.bytes / 0.5) as server,
        start_fetch(server.url, folder, shard) as killed,
        start_fetch(server.url, folder, shard) as waiting,
    ):
        for process in (killed, waiting):
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(delay_s)
        killed.send_signal(signal.SIGKILL)
        assert waiting.communicate(timeout=100)[0] == f"{shard.bytes}\n"
    assert (folder / shard.name).read_bytes() == (whole / shard.name).read_bytes()
    assert names(folder) == [shard.name]


READ = """
import sys
from pipeline.data.store import ShardStore
store = ShardStore(sys.argv[1], "train", cache_dir=sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
print(store.read(0).key, flush=True)
sys.stdin.readline()  # with the copy open
"""


def test_readers_of_one_shard_all_come_back_though_they_keep_it_open(whole: Path, tmp_path: Path) -> None:
    with flaky_server(whole, bytes_per_s=shards_of(whole)[0].bytes / 0.5) as server, contextlib.ExitStack() as stack:
        command = [sys.executable, "-c", READ, server.url, str(tmp_path)]
        pipe = subprocess.PIPE
        readers = [
            stack.enter_context(subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True))
            for _ in range(4)
        ]

        def kill() -> None:
            for reader in readers:
                reader.kill()

        timer = threading.Timer(60, kill)
        stack.callback(timer.cancel)
        timer.start()
        said = []
        for _ in range(2):
            said.append([reader.stdout.readline() for reader in readers if reader.stdout])
            for reader in readers:
                if len(said) == 1 and reader.stdin:
                    reader.stdin.write("\n")
                    reader.stdin.flush()
        assert said == [["ready\n"] * 4, ["s0000\n"] * 4]


def test_a_part_that_nobody_holds_goes_and_one_in_hand_stays(tmp_path: Path) -> None:
    import fcntl

    cache = ShardCache("memory://x", tmp_path, budget_bytes=1)
    (tmp_path / ".stale.tar.part").write_bytes(b"half")
    held = os.open(tmp_path / ".held.tar.part", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert cache.in_hand() == {"held.tar"}
    assert names(tmp_path) == [".held.tar.part"]
    os.close(held)
    assert cache.in_hand() == set()
    assert names(tmp_path) == []


def test_a_cache_travels_and_counts_anew(whole: Path, tmp_path: Path) -> None:
    shard = shards_of(whole)[0]
    with flaky_server(whole) as server:
        cache = ShardCache(server.url, tmp_path, budget_bytes=10**9)
        cache.fetch(shard.name, shard.bytes, shard.sha256)
        assert (cache.counts.files, cache.counts.bytes) == (1, shard.bytes)
        copy = pickle.loads(pickle.dumps(cache))
        assert copy.counts.files == 0 and copy.budget_bytes == 10**9
        copy.fetch(shard.name, shard.bytes, shard.sha256)
        assert copy.counts.files == 0


def test_a_broken_shard_is_asked_for_once_in_a_while(whole: Path, tmp_path: Path, monkeypatch) -> None:
    shard = shards_of(whole)[0]
    with flaky_server(whole, faults=itertools.repeat("500")) as server:
        cache = ShardCache(server.url, tmp_path, budget_bytes=10**9, retry_seconds=0.5)
        for _ in range(3):
            with pytest.raises(ShardError, match=r"cannot fetch it: .*500"):
                cache.fetch(shard.name, shard.bytes, shard.sha256)
        asked = server.told()["requests"]
        assert asked > 1
        monkeypatch.setattr(cache_module, "_BROKEN_SECONDS", 0.0)
        with pytest.raises(ShardError):
            cache.fetch(shard.name, shard.bytes, shard.sha256)
        assert server.told()["requests"] == asked + 1
        assert names(tmp_path) == []


def test_what_a_stop_cut_off_is_not_taken_for_broken(whole: Path, tmp_path: Path) -> None:
    shard = shards_of(whole)[0]
    stop = threading.Event()
    with flaky_server(whole, faults=["500"] * 3) as server:
        cache = ShardCache(server.url, tmp_path, budget_bytes=10**9)
        stop.set()
        with pytest.raises(ShardError, match="cannot fetch it"):
            cache.fetch_ahead(shard.name, shard.bytes, shard.sha256, (), stop)
        assert cache.fetch(shard.name, shard.bytes, shard.sha256).stat().st_size == shard.bytes


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int], None]:
    """Make a folder's disk full at so many bytes, as far as the reservations go."""

    def shrink(folder: Path, capacity: int) -> None:
        reserve = os.posix_fallocate

        def fallocate(descriptor: int, offset: int, length: int) -> None:
            if used_bytes(folder) - os.fstat(descriptor).st_size + length > capacity:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            reserve(descriptor, offset, length)

        monkeypatch.setattr(os, "posix_fallocate", fallocate)

    return shrink


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="room is not reserved there")
def test_on_a_full_disk_a_shard_takes_the_place_of_one_and_of_none_that_comes_sooner(
    whole: Path, tmp_path: Path, small_disk: Callable[[Path, int], None]
) -> None:
    shards = shards_of(whole)[:5]
    coming = [shard.name for shard in shards]
    small_disk(tmp_path, 4 * max(shard.bytes for shard in shards))
    with flaky_server(whole) as server:
        cache = ShardCache(server.url, tmp_path, budget_bytes=10**9)
        for shard in shards[:4]:
            assert cache.fetch_ahead(shard.name, shard.bytes, shard.sha256, coming)
        last = shards[4]
        assert not cache.fetch_ahead(last.name, last.bytes, last.sha256, coming)
        assert names(tmp_path) == coming[:4]
        cache.fetch(last.name, last.bytes, last.sha256)
        assert len(names(tmp_path)) >= 3 and last.name in names(tmp_path)
        kept = [os.open(tmp_path / name, os.O_RDONLY) for name in names(tmp_path)]
        for descriptor, name in zip(kept, names(tmp_path), strict=True):
            hold(descriptor, tmp_path / name)
        gone = next(shard for shard in shards if shard.name not in names(tmp_path))
        small_disk(tmp_path, used_bytes(tmp_path))
        with pytest.raises(ShardError, match="cannot keep a copy"):
            cache.fetch(gone.name, gone.bytes, gone.sha256)
        released: list[int] = []

        def release() -> None:
            while kept:
                released.append(kept.pop())
                os.close(released[-1])

        assert cache.fetch(gone.name, gone.bytes, gone.sha256, release=release).exists()
        assert released


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="room is not reserved there")
def test_fetching_ahead_on_a_full_disk_comes_to_rest(
    whole: Path, tmp_path: Path, small_disk: Callable[[Path, int], None], caplog: pytest.LogCaptureFixture
) -> None:
    shards = shards_of(whole)
    small_disk(tmp_path, 3 * max(shard.bytes for shard in shards))
    with flaky_server(whole) as server:
        prefetcher = Prefetcher(ShardCache(server.url, tmp_path, budget_bytes=10**9), shards)
        prefetcher.follow(itertools.cycle(range(len(shards))))
        until(lambda: {shard.name for shard in shards[:3]} <= set(names(tmp_path)))
        time.sleep(0.5)
        asked = server.told()["requests"]
        time.sleep(1.5)
        prefetcher.close()
        assert server.told()["requests"] == asked <= 6
    assert {shard.name for shard in shards[:3]} <= set(names(tmp_path))
    assert not caplog.records


def test_the_reader_does_not_wait_while_the_road_is_walked(tmp_path: Path) -> None:
    walking, go_on = threading.Event(), threading.Event()

    def road() -> Iterator[int]:
        walking.set()
        assert go_on.wait(20)
        yield 0

    shard = ShardEntry(name="a.tar", bytes=1, samples=1, sha256="0" * 64)
    (tmp_path / "a.tar").write_bytes(b"x")
    prefetcher = Prefetcher(ShardCache("memory://x", tmp_path, budget_bytes=10), [shard])
    prefetcher.follow(road())
    assert walking.wait(20)
    following = threading.Thread(target=prefetcher.follow, args=(iter([0]),), daemon=True)
    following.start()
    following.join(5)
    assert not following.is_alive()
    go_on.set()
    prefetcher.close()


def test_fetching_ahead_says_once_that_no_thread_can_be_started(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shards = shards_of(whole)
    start = threading.Thread.start
    refused: list[str] = []

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "fetch-range":
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    with flaky_server(whole) as server:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        prefetcher = Prefetcher(ShardCache(server.url, tmp_path, budget_bytes=10**9), shards)
        prefetcher.follow(itertools.cycle(range(len(shards))))
        until(lambda: len(refused) > 4)
        assert [record.getMessage() for record in caplog.records if "new thread" in record.getMessage()] == [
            "fetching ahead failed, now and then tried again: can't start new thread"
        ]
        monkeypatch.setattr(threading.Thread, "start", start)
        until(lambda: shards[0].name in names(tmp_path))
        prefetcher.close()


@given(st.lists(st.integers(0, 9), max_size=12), st.sets(st.integers(0, 9)))
def test_the_file_needed_last_goes_first(coming: list[int], cached: set[int]) -> None:
    ages = {str(number): number for number in cached}
    order = eviction_order(ages, [str(number) for number in coming])
    assert sorted(order) == sorted(ages)
    next_use = [coming.index(int(name)) if int(name) in coming else 99 for name in order]
    assert next_use == sorted(next_use, reverse=True)
    strangers = [name for name, use in zip(order, next_use, strict=True) if use == 99]
    assert strangers == sorted(strangers, key=lambda name: ages[name])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(0, 40))
def test_wanted_are_the_next_that_fit(sequence: list[int], budget: int) -> None:
    sizes = [3, 5, 7, 2, 11, 4]
    endless = itertools.chain(sequence, itertools.cycle(range(6)))
    wanted = wanted_shards(endless, sizes, budget)
    distinct = list(dict.fromkeys([*sequence, *range(6)]))
    near = set([*sequence, *range(6)][:6])  # it looks no further than as many places as there are shards
    assert wanted == distinct[: len(wanted)] and wanted
    assert len(wanted) == 1 or sum(sizes[number] for number in wanted) <= budget
    assert set(wanted) == near or sum(sizes[number] for number in distinct[: len(wanted) + 1]) > budget


def test_a_copy_in_use_and_the_index_stay(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar", "c.tar", "train.index"):
        (tmp_path / name).write_bytes(bytes(100))
    descriptor = os.open(tmp_path / "a.tar", os.O_RDONLY)
    hold(descriptor, tmp_path / "a.tar")
    assert used_bytes(tmp_path) == 400
    assert make_room(tmp_path, 100, 450, ["c.tar", "b.tar"])  # a is not needed but open, b is needed last
    assert names(tmp_path) == ["a.tar", "c.tar", "train.index"]
    assert not make_room(tmp_path, 100, 200, ["c.tar"], keep=1)
    os.close(descriptor)
    assert make_room(tmp_path, 100, 300, ["c.tar"], keep=1)
    assert names(tmp_path) == ["c.tar", "train.index"]


def test_the_default_is_half_of_what_is_free(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    assert default_budget_bytes(tmp_path / "not" / "yet") == pytest.approx(free / 2, rel=0.05)


def test_fetching_ahead_keeps_to_the_order_and_the_budget(whole: Path, tmp_path: Path) -> None:
    shards = shards_of(whole)
    assert len(shards) >= 5
    budget = sum(shard.bytes for shard in shards[:3])
    with flaky_server(whole) as server:
        cache = ShardCache(server.url, tmp_path, budget_bytes=budget)
        prefetcher = Prefetcher(cache, shards)
        order = [2, 0, 3, 1, 4]
        most = 0
        for step in range(10):
            road = (order[place % 5] for place in itertools.count(step))
            expected = wanted_shards(iter([order[(step + k) % 5] for k in range(5)]), [s.bytes for s in shards], budget)
            prefetcher.follow(road)
            until(lambda expected=expected: {shards[n].name for n in expected} <= set(names(tmp_path)))
            most = max(most, used_bytes(tmp_path))
        prefetcher.close()
        told = server.told()
    assert most <= budget
    assert told["whole_bytes"] == cache.counts.bytes
    assert told["requests"] <= 12  # with room for 2 or 3 of 5 shards on two rounds, Belady fetches few twice


def test_ranks_and_jobs_on_one_cache_fetch_each_shard_once(whole: Path, tmp_path: Path) -> None:
    shards = shards_of(whole)
    total = sum(shard.bytes for shard in shards)
    with flaky_server(whole, latency_s=0.02, faults=random_faults(0.2)) as server:
        stores = [ShardStore(server.url, "train", cache_dir=str(tmp_path)) for _ in range(3)]
        for number, store in enumerate(stores):
            store.prefetch(itertools.cycle(range(number % 2, len(shards))))
        read = [[store.read(sample).key for sample in range(len(store))] for store in stores]
        until(lambda: not ShardCache(server.url, next(tmp_path.iterdir()), budget_bytes=1).in_hand())
        for store in stores:
            store.close()
        assert read == [[f"s{number:04d}" for number in range(40)]] * 3
        assert sum(store.fetched.bytes for store in stores) > total  # and the index
        assert server.told()["whole_bytes"] == total
    assert not [name for name in names(next(tmp_path.iterdir())) if name.startswith(".")]


def test_a_budget_smaller_than_a_shard_still_serves(whole: Path, tmp_path: Path) -> None:
    with flaky_server(whole) as server:
        store = ShardStore(server.url, "train", cache_dir=str(tmp_path), cache_bytes=1)
        store.prefetch(itertools.cycle(range(len(store.shard_sizes))))
        assert [store.read(sample).key for sample in (0, 39, 20, 1)] == ["s0000", "s0039", "s0020", "s0001"]
        store.close()


def test_the_first_sample_waits_for_its_shard_only(whole: Path, tmp_path: Path) -> None:
    with flaky_server(whole) as server:
        store = ShardStore(server.url, "train", cache_dir=str(tmp_path))
        store.read(len(store) - 1)
        assert [name for name, *_ in server.log if name.endswith(".tar")] == [shards_of(whole)[-1].name]
        store.close()


def test_where_copies_go_and_how_much_they_may_take_is_said(whole: Path, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO", "depthrank")
    with flaky_server(whole) as server:
        ShardStore(server.url, "train", cache_dir=str(tmp_path), cache_bytes=3 * 10**9, cache_share=0.5)
    assert f"go to {next(tmp_path.iterdir())}, up to 1.5 GB" in caplog.text


def test_a_copy_that_the_disk_has_damaged_is_fetched_anew(whole: Path, tmp_path: Path) -> None:
    with flaky_server(whole) as server:
        store = ShardStore(server.url, "train", cache_dir=str(tmp_path))
        store.read(0)
        path = next(tmp_path.iterdir()) / "train-000000.tar"
        store.close()
        path.write_bytes(bytes(path.stat().st_size))  # as after a power cut
        assert store.read(0).key == "s0000"
        assert store.fetched.files == 3  # index, shard, shard
        path.write_bytes(bytes(path.stat().st_size))
        with pytest.raises(ShardError, match="was fetched anew and is no better"):
            store.read(1)
        store.close()


def test_foreign_tars_at_a_url_are_read_after_a_reindex(whole: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for name in ("train-000000.tar", "train-000001.tar"):
        (foreign / f"web-{name}").write_bytes((whole / name).read_bytes())
    reindex(str(foreign))
    with flaky_server(foreign) as server:
        store = ShardStore(server.url, "train", cache_dir=str(tmp_path / "cache"))
        assert [store.read(sample).key for sample in range(len(store))] == [f"s{n:04d}" for n in range(len(store))]
        store.close()


def test_the_road_of_a_manifest_over_http(whole: Path, tmp_path: Path) -> None:
    with flaky_server(whole, faults=["500", "reset"], only=".json") as server:
        manifest: Manifest = read_manifest(server.url)
        assert manifest == read_manifest(str(whole))
    with flaky_server(tmp_path) as server:
        with pytest.raises(ShardError, match=r"manifest\.json is missing"):
            read_manifest(server.url)
        with pytest.raises(ShardError, match="no such dataset"):
            read_manifest(f"{server.url}/gone")


@pytest.mark.slow
def test_a_slow_and_faulty_object_store_is_hardly_noticed() -> None:
    from tests.bench import store as bench

    result = bench.run(samples=1504, indexed=(1_000, 100_000))
    for row in result["object_store"].values():
        assert row["same_samples"] and row["bytes_ratio"] <= 1.03
        assert row["waiting_share_after_window"] < 0.01 + result["local"]["waiting_share"]
    assert result["reader_ratio"] < 1.02
