"""What every test shares: the place of the real pictures, and a local object store."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real stereo pictures and ground truth, or skip."""
    root = Path(os.environ.get("DEPTHRANK_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real pictures at {root}; set DEPTHRANK_DATA")
    return root


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A URL in an empty S3 bucket of this machine, or skip; what s3fs needs to find it is in the environment."""
    reason = 'S3 needs: pip install "depthrank[test-s3]"'
    s3fs = pytest.importorskip("s3fs", reason=reason)
    server = pytest.importorskip("moto.server", reason=reason).ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        name = f"bucket-{os.urandom(4).hex()}"  # moto keeps buckets as long as this process lives
        s3fs.S3FileSystem().mkdir(name)
        yield f"s3://{name}"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()
