#!/bin/sh
# The steps of the Dockerfile: sh launch/docker/install.sh torch | requirements | program, in the folder of pyproject.toml.
#
# A torch that the base image has is built for its CUDA and stays: it, torchvision and NumPy are pinned as they are.

set -eu
pins=/tmp/pins.txt

has() { python -c "import $1" 2>/dev/null; }

pin() {
    python - >"$pins" <<'END'
from importlib.metadata import PackageNotFoundError, version

for name in ("torch", "torchvision", "numpy"):
    try:
        print(f"{name}=={version(name)}")
    except PackageNotFoundError:
        pass
END
}

case ${1:-} in
torch)
    if has torch && has torchvision; then
        echo "the image has torch $(python -c 'import torch; print(torch.__version__)'), which stays"
    else
        pin # a torch without torchvision keeps its version
        pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} --constraint "$pins" "torch>=2.6" "torchvision>=0.21"
    fi
    ;;
requirements)
    pin
    python - "${EXTRAS:-}" >/tmp/requirements.txt <<'END'
import sys
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
for text in project["dependencies"]:
    print(text)
for extra in filter(None, sys.argv[1].split(",")):
    if extra not in project["optional-dependencies"]:
        sys.exit(f"EXTRAS: there is no extra {extra!r}, only {', '.join(project['optional-dependencies'])}")
    for text in project["optional-dependencies"][extra]:
        print(text)
END
    pip install --constraint "$pins" --requirement /tmp/requirements.txt
    ;;
program)
    # Editable: the files of launch/ that are no modules stay where the documents say.
    pip install --no-deps --editable .
    ;;
*)
    sed -n '2,4p' "$0" >&2
    exit 2
    ;;
esac
rm -f "$pins" /tmp/requirements.txt
