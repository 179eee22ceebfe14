"""Write the page of a study and its pictures.

publish_page(Path("docs/study.md"), study, facts, experiments, arms)     # and docs/images/study_*.svg
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.study.analysis import Study
from pipeline.study.page import Facts, write_page
from pipeline.study.plan import Arm, Experiment, arms_of
from pipeline.study.plots import draw_experiment
from shards.errors import RunError, ShardError
from shards.storage import make_folder, publish_bytes

__all__ = ["publish_page"]


def publish_page(
    page: Path, study: Study, facts: Facts, experiments: Sequence[Experiment], arms: Mapping[str, Arm]
) -> None:
    """Write the page, and a picture of each experiment with two arms or more into `images` beside it.

    Raises:
        RunError: They cannot be written.
    """
    titles = {name: arm.title for name, arm in arms.items()}
    pictures: dict[str, str] = {}
    try:
        make_folder(str(page.parent / "images"))
        for experiment in experiments:
            own = arms_of(experiment, facts.preset)
            if sum(study.has(name) for name in own) < 2:
                continue
            pictures[experiment.name] = f"images/{page.stem}_{experiment.name}.svg"
            svg = draw_experiment(study, own, titles, experiment.name)
            publish_bytes(str(page.parent / pictures[experiment.name]), svg.encode())
        publish_bytes(str(page), write_page(study, facts, experiments, arms, pictures).encode())
    except (OSError, ShardError) as error:
        raise RunError(f"{page} was not written: {error}; name another place with --page") from error
