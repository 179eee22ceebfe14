"""Training on Kaggle: a notebook of five cells, its logic, and the commands that fill and chain Kaggle's versions.

    python -m launch.kaggle code    --dataset ME/depthrank-code --out upload/code        # the program, as a dataset
    python -m launch.kaggle shards  --dataset ME/web-shards runs/web-shards --out upload/shards
    python -m launch.kaggle chain   --kernel ME/depthrank --dataset ME/depthrank-code --dataset ME/web-shards

What the first cell of the notebook imports (`cells`, `mounts`, `checks`, `wheels`) needs the standard library only: it
runs before anything is installed, out of the wheel. docs/kaggle.md says how it is used.
"""

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run `depthrank kaggle ...`; returns the exit code."""
    from launch.kaggle.command import main as command  # not above: the notebook imports this package first

    return command(argv)
