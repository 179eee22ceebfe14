"""What the last cell shows: the newest picture grid, TensorBoard where somebody is watching, and what to do next."""

import os
import subprocess
import sys
from pathlib import Path

from launch.kaggle.mounts import newest_step
from pipeline.train.monitor import PICTURE_NAME
from pipeline.train.status import Status, exit_code

__all__ = ["next_steps", "show_pictures", "show_tensorboard", "write_report"]

REPORT_SECONDS = 600


def write_report(run_dir: Path, page: Path, *, site: Path) -> None:
    """Write the page about the run into the output, if the image has what it takes."""
    command = [sys.executable, "-m", "launch.report", str(run_dir), "--out", str(page)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))}
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=REPORT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        print(f"the page about the run took more than {REPORT_SECONDS} s and was left out")
        return
    said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
    print(f"page about the run: {page}" if done.returncode == 0 else f"no page about the run: {said}")


def show_pictures(run_dir: Path) -> None:
    """Show the newest grid of validation pictures inside the notebook."""
    picture = run_dir / PICTURE_NAME
    if not picture.is_file():
        return
    print(f"newest validation pictures: {picture}")
    if _is_notebook():
        from IPython.display import Image, display

        display(Image(filename=str(picture)))


def show_tensorboard(run_dir: Path) -> None:
    """Start TensorBoard inside an interactive notebook; else say how to look at the curves."""
    options = f"--logdir {run_dir} --samples_per_plugin images=200"
    if _is_notebook() and os.environ.get("KAGGLE_KERNEL_RUN_TYPE") == "Interactive":
        from tensorboard import notebook  # type: ignore[import-untyped]

        notebook.start(options)
    else:
        print(f"curves: download the output, then `tensorboard --logdir {run_dir.parent.name}/{run_dir.name}`")


def next_steps(status: Status, run_dir: Path) -> str:
    """What a user of Kaggle does next, by how the run stands."""
    match exit_code(status):
        case 0:
            return f"Finished. The network is {run_dir}/model.safetensors: download the output (Output > Download All)."
        case 1:
            return (
                "The run failed, and starting again would fail again: mend what is said above first "
                "(docs/preemption.md). The checkpoints in this output are good."
            )
    saved = newest_step(run_dir)  # a run that was killed had come further
    guard = f"3. Set expect_step={saved} in the first cell. 4. " if saved else "3. "
    return (
        f"There is more to do. 1. Let this version be saved. 2. Add Input > Notebooks > this notebook's output. {guard}"
        "Save Version > Save & Run All. `python -m launch.kaggle chain` does all of it from your machine."
    )


def _is_notebook() -> bool:
    shell = sys.modules.get("IPython")
    return shell is not None and shell.get_ipython() is not None
