"""What every test shares: the place of the real pictures and a quiet, reproducible machine."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real stereo pictures and ground truth, or skip."""
    root = Path(os.environ.get("DEPTHRANK_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real pictures at {root}; set DEPTHRANK_DATA")
    return root
