import contextlib
import gc
import subprocess
import sys

from pipeline.imports import collecting_later


def tell(*lines: str) -> str:
    """What a new process prints."""
    code = "\n".join(("import gc, sys", "from pipeline.imports import import_torch", *lines))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stderr  # a binding that reports leaks at the exit would
    return done.stdout


def test_what_is_imported_is_not_looked_through_for_garbage_again() -> None:
    said = tell(
        "import_torch('accelerate')",
        "frozen = gc.get_freeze_count()",
        "import_torch('accelerate', 'torch.onnx')",
        "print({'torch', 'accelerate'} <= set(sys.modules), gc.isenabled())",
        "print(frozen > 50_000, gc.get_freeze_count() == frozen)",
    )
    assert said.split() == ["True"] * 4


def test_a_process_that_has_torch_is_left_alone() -> None:
    assert tell("import torch", "import_torch('accelerate')", "print(gc.get_freeze_count())") == "0\n"


def test_who_collects_no_garbage_goes_on_so() -> None:
    assert tell("gc.disable()", "import_torch()", "print(gc.isenabled(), gc.get_freeze_count())") == "False 0\n"


def test_collecting_goes_on_after_the_block_however_it_ends() -> None:
    within = []
    with contextlib.suppress(KeyError), collecting_later():
        within.append(gc.isenabled())
        raise KeyError
    assert within == [False] and gc.isenabled()
