"""The cache on a disk that is really small: a file system of its own, in a namespace of the test's own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shards.manifest import read_manifest

from .flaky_server import flaky_server
from .small_dataset import write_dataset

pytest.importorskip("aiohttp", reason='http needs: pip install "depthrank[http]"')
ROOT = Path(__file__).parents[2]
MOUNTED = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'
READ = """
import itertools, json, sys
from pipeline.data.store import ShardStore
from shards.errors import ShardError
try:
    store = ShardStore(sys.argv[1], "train", cache_dir=sys.argv[2], cache_bytes=10**9)
    store.prefetch(itertools.cycle(range(len(store.shard_sizes))))
    print(json.dumps([store.read(sample).key for sample in range(len(store))]))
    store.close()
except ShardError as error:
    print(json.dumps(str(error)))
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small-disk") / "data"
    write_dataset(folder, samples=40)
    return folder


def read_all(whole: Path, folder: Path, size_bytes: int) -> list[str] | str:
    """Keys of all samples of a served dataset, or why they cannot be read, on a disk of this size."""
    inside = ["unshare", "-rm", "sh", "-c", MOUNTED, "sh", str(size_bytes), str(folder)]
    try:
        may = subprocess.run([*inside, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if may.returncode:
        pytest.skip(f"file systems cannot be mounted here: {may.stderr.strip()}")
    with flaky_server(whole) as server:
        command = [*inside, sys.executable, "-c", READ, server.url, str(folder)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    found: list[str] | str = json.loads(done.stdout)
    return found


def test_a_disk_with_room_for_a_few_shards_is_enough(whole: Path, tmp_path: Path) -> None:
    shards = read_manifest(str(whole)).splits["train"].shards
    assert len(shards) > 5
    room = 4 * max(shard.bytes for shard in shards)
    assert read_all(whole, tmp_path, room) == [f"s{number:04d}" for number in range(40)]


def test_a_disk_without_room_for_one_shard_is_told(whole: Path, tmp_path: Path) -> None:
    shards = read_manifest(str(whole)).splits["train"].shards
    message = read_all(whole, tmp_path, min(shard.bytes for shard in shards) // 2)
    assert isinstance(message, str)
    assert "train-000000.tar: cannot keep a copy of http://" in message and "data.cache_dir" in message
    assert f"No space left on device ({shards[0].bytes / 1e6:.1f} MB are needed)" in message
