"""From `KIND=WHERE` on the command line to a benchmark.

data = [open_data("gt=/data/gt"), open_data("diw=/data/DIW"), open_data("shards=runs/web-shards")]
"""

from difflib import get_close_matches

from pipeline.eval.protocols.base import Benchmark
from pipeline.eval.protocols.da2k import Da2kBenchmark
from pipeline.eval.protocols.dense import TruthData
from pipeline.eval.protocols.diw import DiwBenchmark
from pipeline.eval.protocols.nyu import NyuOrdinalBenchmark
from pipeline.eval.protocols.stored import StoredPairs
from pipeline.eval.truth import SyntheticTruth, TruthFolder
from shards.errors import ConfigError
from shards.sources.config import SyntheticSourceConfig
from shards.sources.files import collection_name
from shards.storage import home_path

__all__ = ["open_data"]

KINDS = ("gt", "diw", "diw_own", "nyu", "da2k", "shards", "synthetic")
MAX_SYNTHETIC_SCENES = 100_000


def open_data(spec: str, *, num_pairs: int = 10_000, seed: int = 0) -> Benchmark:
    """Open what `KIND=WHERE` names.

    Args:
        spec: `gt=FOLDER` (see `truth`), `diw=PATH`, `diw_own=PATH`, `nyu=PATH`, `da2k=PATH`, `shards=URL` (split
            `val` of a dataset) or `synthetic=COUNT` (test scenes).
        num_pairs: pairs drawn a picture where the truth is dense.
        seed: of these pairs, and of the synthetic scenes.

    Raises:
        ConfigError: the kind is unknown, or what follows it is missing or no number.
        DataError: the data is missing or malformed.
    """
    kind, _, where = spec.partition("=")
    label = f"{kind}={collection_name(where)}"
    if where:
        match kind:
            case "gt":
                return TruthData(label, TruthFolder(home_path(where)), num_pairs=num_pairs, seed=seed)
            case "diw" | "diw_own":
                return DiwBenchmark(label, where, own_size=kind == "diw_own")
            case "nyu":
                return NyuOrdinalBenchmark(label, where)
            case "da2k":
                return Da2kBenchmark(label, where)
            case "shards":
                return StoredPairs(where)
            case "synthetic":
                return TruthData(label, _synthetic(spec, where, seed), num_pairs=num_pairs, seed=seed)
    close = get_close_matches(kind, KINDS, n=1)
    hint = f" (did you mean '{close[0]}={where}'?)" if close and close[0] != kind else ""
    raise ConfigError(
        f"{spec!r}{hint}: data is given as gt=FOLDER, diw=PATH, diw_own=PATH, nyu=PATH, da2k=PATH, shards=URL or "
        "synthetic=COUNT"
    )


def _synthetic(spec: str, count: str, seed: int) -> SyntheticTruth:
    if not (count.isascii() and count.isdigit() and len(count) < 10 and 1 <= int(count) <= MAX_SYNTHETIC_SCENES):
        raise ConfigError(f"{spec}: the number of scenes must be 1 to {MAX_SYNTHETIC_SCENES}")
    return SyntheticTruth(SyntheticSourceConfig(kind="synthetic", seed=seed), int(count))
