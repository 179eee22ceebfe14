"""How fast this machine decodes pictures, and whether it reaches the network.

for finding in [decoder_finding(), network_finding()]:
    print(finding)
"""

import io
import socket
import threading
import time
from pathlib import Path

from pipeline.checkup.finding import Finding

__all__ = ["decoder_finding", "jpeg_rate", "network_finding", "reaches"]

SLOW_PICTURES_PER_S = 60.0
WEIGHTS_HOST = "download.pytorch.org"
SECONDS_TO_CONNECT = 3.0


def jpeg_rate(seconds: float = 0.5) -> float:
    """Pictures of 640 x 480 that one thread decodes in a second of its processor time, the way the loader does."""
    import cv2
    import numpy as np
    from PIL import Image

    from shards.format import decode_jpeg

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC)
    written = io.BytesIO()
    Image.fromarray(picture).save(written, "JPEG", quality=90)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        decode_jpeg(written.getvalue())
        start, done = time.thread_time(), 0
        while time.thread_time() - start < seconds:
            decode_jpeg(written.getvalue())
            done += 1
        return done / (time.thread_time() - start)
    finally:
        cv2.setNumThreads(threads)


def decoder_finding(rate: float) -> Finding:
    """What that rate means for training."""
    text = f"{rate:.0f} pictures of 640 x 480 a second and core"
    if rate < SLOW_PICTURES_PER_S:
        mend = "slow: pack with a smaller shards.long_side_px, take more data.num_workers"
        return Finding.note("JPEG decoder", text, mend)
    return Finding.ok("JPEG decoder", text)


def network_finding(reached: bool, hub_folder: Path) -> Finding:
    """Whether `model.encoder_weights=imagenet` can work here.

    Args:
        reached: whether the server of the weights answers.
        hub_folder: where torch keeps what it has downloaded.
    """
    kept = sorted(path.name for path in (hub_folder / "checkpoints").glob("*.pth"))
    if reached:
        return Finding.ok("network", f"{WEIGHTS_HOST} answers")
    have = f"; at hand are {', '.join(kept)}" if kept else ""
    return Finding.note(
        "network",
        f"{WEIGHTS_HOST} cannot be reached{have}",
        "ImageNet weights cannot be downloaded here: bring a file, model.encoder_weights=FILE.safetensors (or .pth)",
    )


def reaches(host: str, port: int = 443, seconds: float = SECONDS_TO_CONNECT) -> bool:
    """Whether a connection to a server opens in time; looking up its name counts as well."""
    answered = threading.Event()

    def connect() -> None:
        try:
            with socket.create_connection((host, port), timeout=seconds):
                answered.set()
        except OSError:
            return

    # The look-up of a name heeds no timeout of ours, so it must not be waited for.
    threading.Thread(target=connect, daemon=True).start()
    return answered.wait(seconds)
