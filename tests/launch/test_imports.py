import subprocess
import sys


def tell(*lines: str) -> str:
    """What a new process prints."""
    code = "\n".join(("import gc, sys", "from launch.imports import import_torch", *lines))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stderr  # a binding that reports leaks at the exit would
    return done.stdout


def test_what_is_imported_is_not_looked_through_for_garbage_again() -> None:
    said = tell(
        "import_torch(trains=True)",
        "frozen = gc.get_freeze_count()",
        "import_torch(trains=True)",
        "print({'torch', 'accelerate', 'torch._dynamo'} <= set(sys.modules), gc.isenabled())",
        "print(frozen > 50_000, gc.get_freeze_count() == frozen)",
    )
    assert said.split() == ["True"] * 4


def test_a_process_that_has_torch_is_left_alone() -> None:
    assert tell("import torch", "import_torch(trains=True)", "print(gc.get_freeze_count())") == "0\n"


def test_who_collects_no_garbage_goes_on_so() -> None:
    assert tell("gc.disable()", "import_torch()", "print(gc.isenabled(), gc.get_freeze_count())") == "False 0\n"
