"""A stand-in for the program `kaggle`, whose words are those of version 2.2.5 and of its documentation.

    kaggle_service.py STATE kernels push -p FOLDER

STATE holds `script.json`, a list with an entry a push: what happens to that version, how often it is still running when
it is asked for, and the folder of its output. `calls.jsonl` is what it was asked.
"""

import json
import re
import shutil
import sys
from pathlib import Path

STATUS = '{kernel} has status "KernelWorkerStatus.{stage}"'


def main(state: Path, arguments: list[str]) -> int:
    with (state / "calls.jsonl").open("a") as file:
        file.write(json.dumps(arguments) + "\n")
    script = json.loads((state / "script.json").read_text())
    versions = sorted(state.glob("version_*"))
    match arguments:
        case ["quota", "-v"]:
            hours = json.loads((state / "quota.json").read_text())
            print("resource,used,remaining,total,refreshAt")
            print(f"GPU,{30 - hours:.2f}h,{hours:.2f}h,30.00h,2026-12-05T00:00:00+00:00")
            print("TPU,0.00h,20.00h,20.00h,2026-12-05T00:00:00+00:00")
        case ["kernels", "push", "-p", folder]:
            return push(state, Path(folder), script, len(versions))
        case ["kernels", "status", kernel]:
            if not versions:
                print(
                    "404 Client Error: Not Found for url: https://www.kaggle.com/api/v1/kernels/status", file=sys.stderr
                )
                return 1
            facts = script[len(versions) - 1]
            asked = json.loads((versions[-1] / "asked.json").read_text())
            (versions[-1] / "asked.json").write_text(json.dumps(asked + 1))
            if asked in facts.get("unknown", []):
                print("404 Client Error: Not Found", file=sys.stderr)
                return 1
            if asked in facts.get("unreachable", []):
                print("503 Server Error: Service Unavailable", file=sys.stderr)
                return 1
            print(STATUS.format(kernel=kernel, stage="RUNNING" if asked < facts["polls"] else facts["stage"]))
            if asked >= facts["polls"] and "failure" in facts:
                print(f'Failure message: "{facts["failure"]}"')
        case ["kernels", "output", kernel, "-p", target, "-o", "-q", "--file-pattern", pattern]:
            output = Path(script[len(versions) - 1]["output"])
            for path in sorted(output.rglob("*")):
                name = str(path.relative_to(output))
                if path.is_file() and re.search(pattern, name):
                    (Path(target) / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, Path(target) / name)
            (Path(target) / f"{kernel.partition('/')[2]}.log").write_text("[]")
        case _:
            print(f"kaggle: error: unrecognized arguments: {' '.join(arguments)}", file=sys.stderr)
            return 2
    return 0


def push(state: Path, folder: Path, script: list[dict], number: int) -> int:
    metadata = json.loads((folder / "kernel-metadata.json").read_text())
    notebook = json.loads((folder / metadata["code_file"]).read_text())
    if len(metadata["title"]) < 5 or metadata["language"] != "python" or metadata["kernel_type"] != "notebook":
        print("A valid language must be specified in the metadata.", file=sys.stderr)
        return 1
    facts = script[number]
    if "refused" in facts:
        print(f"Kernel push error: {facts['refused']}")
        return 0
    folder = state / f"version_{number + 1}"
    folder.mkdir()
    (folder / "kernel-metadata.json").write_text(json.dumps(metadata))
    (folder / "notebook.ipynb").write_text(json.dumps(notebook))
    (folder / "asked.json").write_text("0")
    if "invalid" in facts:
        print(f"The following are not valid kernel sources and could not be added to the kernel: {facts['invalid']}")
    address = f"https://www.kaggle.com/code/{metadata['id']}"
    print(f"Kernel version {number + 1} successfully pushed.  Please check progress at {address}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
