"""Print pip constraints that hold each declared dependency at its lowest series.

    python tests/lowest_versions.py > constraints.txt

`torch>=2.6` becomes `torch==2.6.*`: the oldest series, with its bug-fix releases.
"""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
for requirement in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
    name, version = re.fullmatch(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", requirement).groups()
    print(f"{name}=={version}.*")
print("pyparsing<3.3")  # what Matplotlib 3.9 calls of it warns in later ones
