"""Folders that are ready to be uploaded as Kaggle datasets: the program with its wheels, and shards.

    prepare_code(Path("upload/code"), "me/depthrank-code", recipes=[Path("configs/kaggle_t4x2.yaml")])
    prepare_shards(Path("upload/shards"), "me/web-shards", Path("runs/web-shards"))

Kaggle unpacks archives when they are uploaded, zip and tar.gz for certain, and what is a zip inside, such as a .pth of
torch; none of these is let in. Whether it unpacks a plain .tar is documented neither way: training reads both.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from shards.errors import ConfigError, ShardError
from shards.manifest import MANIFEST_NAME, read_manifest
from shards.storage import publish_bytes

__all__ = ["METADATA_NAME", "check_folder", "prepare_code", "prepare_shards"]

METADATA_NAME = "dataset-metadata.json"
LICENSES = tuple(
    re.findall(
        r"\S+",
        "unknown other copyright-authors CC0-1.0 CC-BY-3.0 CC-BY-3.0-IGO CC-BY-4.0 CC-BY-SA-3.0 CC-BY-SA-4.0 "
        "CC-BY-ND-4.0 CC-BY-NC-4.0 CC-BY-NC-ND-4.0 CC-BY-NC-SA-3.0-IGO CC-BY-NC-SA-4.0 ODC-BY-1.0 ODbL-1.0 DbCL-1.0 "
        "PDDL CDLA-Permissive-1.0 CDLA-Sharing-1.0 US-Government-Works EU-ODP-Legal-Notice apache-2.0 GPL-2.0 GPL-3.0 "
        "LGPL-3.0 AGPL-3.0 FDL-1.3",
    )
)
"""Kaggle's names."""
REFERENCE = re.compile(r"[A-Za-z0-9-]{1,50}/[a-z0-9-]{6,50}")
MAX_TOP_FILES = 50
MAX_BYTES = 200 * 10**9
UNPACKED_SUFFIXES = (".zip", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".pth", ".pt", ".ckpt", ".npz")
PACKAGES = ("model", "shards", "pipeline", "launch")
DEFAULT_WHEELS = ("webdataset>=1.0", "braceexpand")
"""What Kaggle's image lacks of our requirements, going by its published list; the notebook says if it is more."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux2014_x86_64", "any")


def prepare_code(
    out: Path,
    dataset: str,
    *,
    recipes: Sequence[Path],
    files: Sequence[Path] = (),
    wheels: Sequence[str] = DEFAULT_WHEELS,
    encoder_weights: str | None = None,
    python_version: str = "3.12",
) -> list[str]:
    """Fill a folder with the program's wheel, wheels that the image lacks, recipes and weights.

    Args:
        out: New or empty folder.
        dataset: Reference of the Kaggle dataset, `OWNER/SLUG`.
        recipes: YAML files.
        files: More files to take along, encoder weights for example.
        wheels: Requirements to download for the image's Python, or wheels that are files.
        encoder_weights: Encoder whose ImageNet weights are taken along, from torchvision.
        python_version: Of the image, for wheels with compiled code.

    Returns:
        Lines for the user: what was made.

    Raises:
        ConfigError: An argument is wrong, or something cannot be built or downloaded.
    """
    given = [*recipes, *files, *(Path(name) for name in wheels if name.endswith(".whl"))]
    for path in given:  # before the folder is begun, which a second try would find half filled
        if not path.is_file():
            raise ConfigError(f"{path}: no such file")
    _start(out, dataset)
    wheel = _build_wheel(out)
    for path in given:
        _take(path, out)
    for name in wheels:
        if not name.endswith(".whl"):
            _download(name, out, python_version)
    if encoder_weights is not None:
        _save_encoder_weights(encoder_weights, out)
    commit = _commit()
    description = (
        f"depthrank {metadata.version('depthrank')}{f', commit {commit}' if commit else ''}, for its notebook."
    )
    _write_metadata(out, dataset, "apache-2.0", description)
    return [f"program   {wheel.name}{f' of commit {commit}' if commit else ''}", *check_folder(out)]


def prepare_shards(out: Path, dataset: str, source: Path, *, license_name: str = "unknown") -> list[str]:
    """Fill a folder with a dataset of shards: as links where the disk allows it, so that nothing is copied.

    Args:
        out: New or empty folder.
        dataset: Reference of the Kaggle dataset, `OWNER/SLUG`.
        source: Folder of the dataset of shards.
        license_name: One of Kaggle's.

    Returns:
        Lines for the user: what was made, and what Kaggle may do with it.

    Raises:
        ConfigError: An argument is wrong, or the dataset has too many files for Kaggle.
        ShardError: The dataset is incomplete.
    """
    if license_name not in LICENSES:
        raise ConfigError(f"--license {license_name!r}: Kaggle knows {', '.join(LICENSES)}")
    manifest = read_manifest(str(source))
    splits = manifest.splits.values()
    shards = [shard for split in splits for shard in split.shards]
    names = [*(shard.name for shard in shards), *(split.index.name for split in splits), MANIFEST_NAME]
    total = sum(shard.bytes for shard in shards)
    if len(names) > MAX_TOP_FILES:
        larger = max(1, -(-total // (40 * 1024**2)))
        raise ConfigError(
            f"{source}: {len(names)} files, and Kaggle takes {MAX_TOP_FILES} at the top of a dataset. Pack it in "
            f"larger shards: shards.shard_bytes={larger * 1024**2} (`launch.shards`), or `launch.inspect --merge ... "
            f"--shard-bytes {larger * 1024**2}`"
        )
    _start(out, dataset)
    for shard in shards:
        path = source / shard.name
        if not path.is_file() or path.stat().st_size != shard.bytes:
            raise ShardError(f"{path}: missing or not {shard.bytes} bytes long; copy or pack the dataset again")
    for name in names:
        _link(source / name, out / name)
    samples = ", ".join(f"{split.samples} {name}" for name, split in manifest.splits.items())
    _write_metadata(out, dataset, license_name, f"Shards of depthrank, format {manifest.format_version}: {samples}.")
    lines = [f"shards    {len(shards)} tar files, {total / 1e9:.2f} GB, {samples} samples", *check_folder(out)]
    loose = 4 * sum(split.samples for split in splits)
    lines.append(
        f"tars      whether Kaggle unpacks plain .tar files is documented neither way. If it does, folders of about "
        f"{loose} files take their place, which training reads as well, each sample verified; the notebook says "
        "what it found"
    )
    return lines


def check_folder(folder: Path) -> list[str]:
    """Whether Kaggle can take a folder as it is.

    Returns:
        A line for the user: files and bytes.

    Raises:
        ConfigError: Names every file that would not arrive as it is, and what to do.
    """
    entries = sorted(path for path in folder.iterdir() if path.name != METADATA_NAME)
    wrong = [
        f"{path.name}/ is a folder, which `kaggle datasets create` leaves out" for path in entries if path.is_dir()
    ]
    files = [path for path in entries if not path.is_dir()]
    for path in files:
        is_wheel = path.suffix == ".whl"
        if path.name.lower().endswith(UNPACKED_SUFFIXES) or (not is_wheel and zipfile.is_zipfile(path)):
            wrong.append(f"{path.name} is an archive, which Kaggle unpacks; weights go as .safetensors")
    total = sum(path.stat().st_size for path in files)
    if len(files) > MAX_TOP_FILES:
        wrong.append(f"{len(files)} files, more than {MAX_TOP_FILES}")
    if total > MAX_BYTES:
        wrong.append(f"{total / 1e9:.0f} GB, more than {MAX_BYTES / 1e9:.0f} GB")
    if wrong:
        raise ConfigError("\n".join(f"{folder}: {line}" for line in wrong))
    return [f"folder    {folder}: {len(files)} files (at most {MAX_TOP_FILES}), {total / 1e6:.1f} MB"]


def _start(out: Path, dataset: str) -> None:
    if not REFERENCE.fullmatch(dataset):
        raise ConfigError(
            f"--dataset {dataset!r}: needs OWNER/SLUG, the slug of 6 to 50 small letters, digits and dashes"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: is there already and not empty; remove it or name another --out")
    out.mkdir(parents=True, exist_ok=True)


def _write_metadata(out: Path, dataset: str, license_name: str, description: str) -> None:
    slug = dataset.partition("/")[2]
    content = {"title": slug, "id": dataset, "licenses": [{"name": license_name}], "description": description}
    publish_bytes(str(out / METADATA_NAME), json.dumps(content, indent=1).encode() + b"\n")


def _take(path: Path, out: Path) -> None:
    if (out / path.name).exists():
        raise ConfigError(f"{path}: there is a file of this name in {out} already")
    shutil.copyfile(path, out / path.name)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or one without links
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise ConfigError(f"{source}: cannot be copied to {target} ({error.strerror})") from error


def _build_wheel(out: Path) -> Path:
    """The program as a wheel, from a copy of its sources: what setuptools has left in the checkout may be old."""
    root = Path(__file__).parents[2]
    if not (root / "pyproject.toml").is_file():
        raise ConfigError(f"{root}: no pyproject.toml; run this in the checkout, with `pip install -e .`")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "source"
        copy.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copyfile(root / name, copy / name)
        for name in PACKAGES:
            shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        local = [] if _setuptools_version() < (77,) else ["--no-build-isolation"]
        _pip("wheel", "--no-deps", *local, "--wheel-dir", str(out), str(copy), what="the program's wheel")
    return next(out.glob("depthrank-*.whl"))


def _download(requirement: str, out: Path, python_version: str) -> None:
    platforms = [f"--platform={name}" for name in PLATFORMS]
    options = ["--no-deps", "--only-binary", ":all:", "--python-version", python_version, *platforms]
    _pip("download", *options, "--dest", str(out), requirement, what=f"--wheel {requirement}")


def _save_encoder_weights(encoder: str, out: Path) -> None:
    import torchvision
    from safetensors.torch import save_file

    from model.imagenet import FIRST_SET

    try:
        weights = torchvision.models.get_model_weights(encoder)[FIRST_SET]
        state = weights.get_state_dict(check_hash=True, weights_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ConfigError(f"--encoder-weights {encoder}: {' '.join(str(error).split())[:300]}") from error
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    save_file(tensors, out / f"{encoder}-imagenet.safetensors")


def _pip(*arguments: str, what: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if "error" in line.lower()]
        raise ConfigError(f"{what}: {' | '.join(lines)[:1000] or f'pip ended with {done.returncode}'}")


def _setuptools_version() -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in metadata.version("setuptools").split(".")[:1])
    except (metadata.PackageNotFoundError, ValueError):
        return (0,)


def _commit() -> str | None:
    root = Path(__file__).parents[2]
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
