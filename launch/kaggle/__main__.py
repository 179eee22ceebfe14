"""`python -m launch.kaggle`."""

import sys

from launch.cli import run_command
from launch.kaggle import main

if __name__ == "__main__":
    sys.exit(run_command(main))
