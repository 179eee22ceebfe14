"""Workers of a Dask cluster as an executor, for commands that can use many machines.

with dask_cluster("tcp://head:8786") as cluster:
    pack(config, executor=cluster.executor)
"""

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass

from shards.errors import ConfigError, DataError

__all__ = ["DaskCluster", "dask_cluster"]

_SECONDS_TO_CONNECT = 20


@dataclass(frozen=True)
class DaskCluster:
    """A connected cluster.

    Args:
        executor: Runs functions on its workers; a worker that dies has its work done by another.
        num_threads: Of all workers together.
    """

    executor: Executor
    num_threads: int


@contextmanager
def dask_cluster(address: str) -> Iterator[DaskCluster]:
    """Connect to the scheduler at `address` for the length of a job.

    Raises:
        ConfigError: Dask is not installed, or nobody answers at the address.
        DataError: The cluster has no workers, they run another version of this program, or the work kills them.
    """
    try:
        from dask.distributed import Client, KilledWorker
    except ModuleNotFoundError:
        raise ConfigError('--dask needs Dask: pip install "depthrank[cluster]", here and on the workers') from None
    try:
        client = Client(address, timeout=_SECONDS_TO_CONNECT)
    except (OSError, ValueError) as error:  # a timeout is an OSError
        raise ConfigError(
            f"--dask {address}: no scheduler answers there ({(str(error) or type(error).__name__).splitlines()[0]})"
        ) from error
    from shards.journal import program_digest  # not above: it loads OpenCV, and --help is to be quick

    with client:
        num_threads = sum(client.nthreads().values())
        if num_threads == 0:
            raise DataError(f"--dask {address}: the cluster has no workers; start some with `dask worker {address}`")
        _check_program(client.run(program_digest, on_error="return"), program_digest())
        try:
            yield DaskCluster(client.get_executor(), num_threads)
        except KilledWorker as error:
            raise DataError(
                "Dask gave up on a picture that killed several workers, most likely for want of memory; give the "
                "workers more, or fewer threads (`dask worker --nthreads 1`), and start again to continue"
            ) from error


def _check_program(digests: dict[str, object], expected: str) -> None:
    """All workers must make the same labels as this process would."""
    for worker, digest in sorted(digests.items()):
        if isinstance(digest, BaseException):
            raise DataError(f"the Dask worker {worker} cannot run this program ({digest}); install depthrank there too")
        if digest != expected:
            raise DataError(
                f"the Dask worker {worker} runs another version of depthrank, OpenCV, NumPy, Pillow or Python than "
                "this machine; its labels would differ. Install the same versions"
            )
