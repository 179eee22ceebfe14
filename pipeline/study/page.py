"""The page of a study in Markdown: verdicts, tables, pictures. All of its words on results follow from the results.

text = write_page(study, facts, experiments, pictures={"losses": "images/study_losses.svg"})
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.study.analysis import WEB, ZERO_SHOT, ArmFigure, JudgedClaim, Study
from pipeline.study.claims import BASELINE
from pipeline.study.plan import Arm, Experiment, arms_of, seeds_of
from pipeline.study.verdict import Separation

__all__ = ["Facts", "write_page"]

_ANSWERS = {"yes": "**yes**", "no": "**no**", "not separable": "not separable"}
_RULE = """\
The rule stands in `pipeline/study/verdict.py` and is tested. One arm less another is a mean over the seeds that both
have. Its variance is that over the pictures (2,000 paired draws of them) plus that over the seeds, divided by their
number; the interval is 95 % by Student's t with Welch-Satterthwaite's degrees of freedom. **yes**: all of it is below
zero, the claimed order reproduces; **no**: all of it is above zero, the order is the other way round; *not separable*:
it holds zero, or there are fewer than two seeds. The held-out web pairs decide; the zero-shot column stands beside
them. Of twenty such intervals one is expected to exclude zero by chance."""


@dataclass(frozen=True)
class Facts:
    """What the page says of how the results came about."""

    preset: str
    command: str
    """As typed, without places on anybody's disk."""
    config: str
    """The recipe's file."""
    setting: Mapping[str, Any]
    """What the reader must know of the recipe: title -> value."""
    batch_size: int
    accepted: Mapping[str, int]
    """Split of the cleaned dataset -> pictures."""
    rejects: Mapping[str, int]
    """Reason -> pictures that were left out of it."""
    left: Sequence[str]
    """Planned runs without a result."""


def write_page(
    study: Study,
    facts: Facts,
    experiments: Sequence[Experiment],
    arms: Mapping[str, Arm],
    pictures: Mapping[str, str],
) -> str:
    """The page.

    Args:
        study: All results.
        facts: How they came about.
        experiments: Those of the page; one without any result of its own is named as left.
        arms: All arms by name.
        pictures: Experiment -> path of its picture, relative to the page.
    """
    parts = [
        "# Study: does ranking from web stereo work?",
        "*Written by `launch.study` from the stored results; edit the program, not this page.*",
        "\n".join(_setting(study, facts)),
    ]
    judged = [claim for experiment in experiments for claim in _own_claims(study, experiment, facts.preset)]
    parts += ["## Verdicts", "\n".join(_in_words(judged)), "\n".join(_verdicts(judged)), _RULE]
    for experiment in experiments:
        own = [name for name in arms_of(experiment, facts.preset) if study.has(name)]
        if len(own) < 2:
            continue
        parts += [f"## {experiment.title}", "\n".join(_table(study, own, arms))]
        if experiment.name in pictures:
            parts.append(f"![{experiment.title}: WHDR of each arm]({pictures[experiment.name]})")
        missing = _missing(study, experiment, facts.preset)
        if missing:
            parts.append(f"Without a result yet: {missing}.")
    untouched = [
        experiment.title.lower()
        for experiment in experiments
        if sum(study.has(name) for name in arms_of(experiment, facts.preset)) < 2
    ]
    parts += [
        "## What is left",
        "\n".join(_left(facts, untouched)),
        "## What this can and cannot show",
        _early(study, facts.batch_size) + _LIMITS,
    ]
    parts += ["## Run it", _HOW]
    return "\n\n".join(part for part in parts if part) + "\n"


_LIMITS = """\
- The held-out pairs carry labels by the same matcher that labelled the training pairs: they say how well a network
  learned what it was shown, errors of the matcher included. The measured depth is independent of it, but small, and
  most of it is still lifes on a table, unlike the web pictures.
- The held-out labels are cleaned, which favours arms that train on cleaned ones: for the cleaning, look at the measured
  depth as well.
- Every arm gets the same number of steps and the same rate, which was not tuned for any of them. A loss that would be
  best at another rate, or after longer training, is not shown at its best.
- *Not separable* is not *equal*: more pictures, more seeds or longer training may separate the two.
- An interval of a figure is over the pictures, seeds held fixed, and ± is the standard deviation over the seeds; both
  enter a verdict. The interval of a set with fewer than ten pictures is rather too narrow."""


_HOW = """\
```sh
make study ARGS="--max-hours 2"                                   # all of it, in as many sessions as it takes
python -m launch.study --only losses,pairs model.encoder_weights=RESNET50.safetensors
python -m launch.study --preset gpu --pictures PICTURES --truth TRUTH
python -m launch.study --plan                                     # which runs there are and how far each is
```

`--only` takes `losses`, `pairs`, `size`, `cleaning`, `augment`, `rate`. Ctrl-C, SIGTERM, `--max-hours` and a kill lose
nothing: each run is an ordinary run of `launch.train` in `runs/study/PRESET/`, the log shows it as a command of its
own, and the same study command carries on. Datasets are packed once, into `runs/study/shards/`. What a run scored is in
`runs/study/PRESET/results/`, picture by picture; `--page-only` writes this page from there. Once a run is judged its
checkpoints are deleted, its network stays. Settings after the options hold for every run; others than those of a run
that exists are refused, `--out` begins another study. The preset `gpu` takes 384x384, 20,000 steps and three seeds of
every arm, among them edge-guided pairs and label cleaning step by step, and writes `docs/study_gpu.md`."""

_FEW_PASSES = 20


def _early(study: Study, batch_size: int) -> str:
    """A warning where the runs are so short that they show the first steps of training only."""
    passes = [run.steps * batch_size / run.train_samples for run in study.results if run.train_samples]
    if not passes or max(passes) >= _FEW_PASSES:
        return ""
    low, high = (f"{number:.1f}" for number in (min(passes), max(passes)))
    span = low if low == high else f"{low} to {high}"
    return (
        f"- **Short runs**: each saw its training pictures {span} times. What is compared here is how fast a network\n"
        "  with pretrained features learns, not where training ends, which is what the paper's figures are about.\n"
    )


def _setting(study: Study, facts: Facts) -> Iterator[str]:
    runs = [result for result in study.results if result.seed is not None]
    devices = sorted({run.device for run in runs})
    commits = sorted({run.commit for run in runs if run.commit})
    hours = sum(run.hours for run in runs)
    yield "| | |"
    yield "|---|---|"
    yield f"| command | `{facts.command}` |"
    yield f"| recipe | `{facts.config}`: {', '.join(f'{title} {value}' for title, value in facts.setting.items())} |"
    accepted = ", ".join(f"{count} {split}" for split, count in sorted(facts.accepted.items()))
    rejects = ", ".join(f"{reason} {count}" for reason, count in sorted(facts.rejects.items(), key=lambda r: -r[1]))
    yield f"| web pairs | {accepted}; left out: {rejects or 'none'} |"
    sets = [(name, study.figure(BASELINE, ZERO_SHOT, name)) for name in study.sets(ZERO_SHOT)]
    listed = ", ".join(f"{name} {figure.num_pictures}" for name, figure in sets if figure)
    yield f"| measured depth | {listed or 'none'} pictures |"
    trained = f"{hours:.2f} h of training on {', '.join(devices) or '-'}"
    yield f"| runs | {len(runs)} judged, {len(facts.left)} left; {trained} |"
    yield f"| commit | {', '.join(f'`{commit}`' for commit in commits) or '-'} |"


def _verdicts(judged: Sequence[JudgedClaim]) -> Iterator[str]:
    yield "| claim | paper, WHDR % | reproduces here | held-out web pairs, difference in points | zero-shot | |"
    yield "|---|---|---|---|---|---|"
    for one in judged:
        verdict = one.verdict(WEB)
        answer = _ANSWERS[verdict] if verdict else "not trained yet"
        cells = [_differences(one.by_yardstick[yardstick]) for yardstick in (WEB, ZERO_SHOT)]
        zero_shot = one.verdict(ZERO_SHOT)
        beside = _ANSWERS[zero_shot] if zero_shot else ""
        yield f"| {one.claim.text} | {one.claim.paper} | {answer} | {cells[0]} | {cells[1]} | {beside} |"


def _own_claims(study: Study, experiment: Experiment, preset: str) -> Iterator[JudgedClaim]:
    """The claims of an experiment on arms that the preset trains."""
    trained = {*arms_of(experiment, preset), BASELINE}
    for one in study.judged_claims(experiment.name):
        if all({*comparison} <= trained for comparison in one.claim.comparisons):
            yield one


def _in_words(judged: Sequence[JudgedClaim]) -> Iterator[str]:
    """The verdicts as sentences."""
    found = {one.claim.text: (one.verdict(WEB), one.verdict(ZERO_SHOT)) for one in judged}
    for word, title in (("yes", "Reproduces"), ("no", "Comes out the other way round"), ("not separable", "Open")):
        texts = [text for text, (verdict, _) in found.items() if verdict == word]
        if texts:
            yield f"- {title} at this size: {'; '.join(texts)}."
    contrary = [text for text, (web, zero_shot) in found.items() if {web, zero_shot} == {"yes", "no"}]
    if contrary:
        yield f"- The two yardsticks contradict each other on: {'; '.join(contrary)}."


def _table(study: Study, own: Sequence[str], arms: Mapping[str, Arm]) -> Iterator[str]:
    sets = study.sets(ZERO_SHOT)
    total = next((f.num_pictures for name in own if (f := study.figure(name, ZERO_SHOT))), 0)
    web = next((f.num_pictures for name in own if (f := study.figure(name, WEB))), 0)
    headings = [
        "WHDR % [95 % over pictures] ± seeds",
        "seeds",
        f"held-out web pairs ({web} pictures)",
        *([f"measured depth ({total} pictures)"] if total else []),
        *sets,
        *(["mean of sets"] if sets else []),
    ]
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    for name in [*own, *([BASELINE] if study.has(BASELINE) else [])]:
        by_set = [study.figure(name, ZERO_SHOT, set_name) for set_name in sets]
        values = [figure.value for figure in by_set if figure]
        cells = [
            arms[name].title if name in arms else name,
            str(len(study.seeds(name))) if name in arms else "",
            _figure(study.figure(name, WEB)),
            *([_figure(study.figure(name, ZERO_SHOT))] if total else []),
            *(f"{100 * figure.value:.1f}" if figure else "-" for figure in by_set),
            *([f"{100 * sum(values) / len(values):.1f}"] if values else []),
        ]
        yield f"| {' | '.join(cells)} |"


def _missing(study: Study, experiment: Experiment, preset: str) -> str:
    wanted = range(seeds_of(experiment, preset))
    names = [f"{arm}_s{seed}" for arm in arms_of(experiment, preset) for seed in wanted if seed not in study.seeds(arm)]
    return ", ".join(f"`{name}`" for name in names)


def _left(facts: Facts, untouched: Sequence[str]) -> Iterator[str]:
    if not facts.left:
        yield "Nothing: every planned run is trained and judged."
        return
    names = ", ".join(f"`{name}`" for name in facts.left)
    number = len(facts.left)
    yield f"{number} {'run' if number == 1 else 'runs'}, with which the same command goes on: {names}."
    if untouched:
        yield ""
        yield f"Not compared yet: {', '.join(untouched)}."


def _figure(figure: ArmFigure | None) -> str:
    if figure is None:
        return "-"
    text = f"{100 * figure.value:.1f}"
    if figure.interval is not None:
        text += f" [{100 * figure.interval.low:.1f}, {100 * figure.interval.high:.1f}]"
    deviation = figure.seed_deviation
    return text if deviation is None else f"{text} ± {100 * deviation:.1f}"


def _differences(found: Sequence[Separation]) -> str:
    return "; ".join(_difference(one) for one in found) or "-"


def _difference(one: Separation) -> str:
    text = f"{100 * one.value:+.1f}"
    if math.isnan(one.low):
        return f"{text} (one seed)" if one.num_seeds < 2 else f"{text} (too few pictures)"
    return f"{text} [{100 * one.low:+.1f}, {100 * one.high:+.1f}]"
