"""Training on Google Colab: what the cells of `train.ipynb` call.

The run lives on the machine's own disk, where locks and fast writes work; Google Drive holds a second copy of the
checkpoints and of the logs, and nothing else. A machine that is taken away costs the steps since the last checkpoint:
open the notebook again and run all of its cells.
"""

from shards.errors import DepthRankError


def _message_alone(error: DepthRankError) -> list[str]:
    return [f"error: {error}"]


# IPython shows this in place of a traceback; the cell fails all the same, and "Run all" ends there.
DepthRankError._render_traceback_ = _message_alone  # type: ignore[attr-defined]
