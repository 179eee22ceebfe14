"""A run's row in TensorBoard's table of settings (HPARAMS), as three summaries of one tag each.

log.add(experiment(settings, ["optim.lr"], {"val/whdr": "WHDR"})); log.add(run_start(settings)); ...; log.add(run_end())

The figures beside the settings are the last points of curves of the same folder. The content lies in the metadata of
the tags, of which TensorBoard keeps the first it reads; so only what stays the same from session to session belongs
there. torch's `summary.hparams` writes the same three at once, as successful, and knows no names of figures.
"""

from collections.abc import Collection, Mapping

from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2  # type: ignore[import-untyped]

__all__ = ["experiment", "run_end", "run_start"]

Settings = Mapping[str, float | str | bool]


def experiment(settings: Settings, first: Collection[str], metrics: Mapping[str, str]) -> Summary:
    """Which columns there are: settings, and figures by their tag with the name to show.

    TensorBoard orders settings by name and shows five; those of `first` come before the others.
    """
    content = api_pb2.Experiment(
        # Those that "differ" between runs go first; here it is told which those are likely to be.
        hparam_infos=[
            api_pb2.HParamInfo(name=name, type=_type(value), differs=name in first) for name, value in settings.items()
        ],
        metric_infos=[
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=name) for tag, name in metrics.items()
        ],
    )
    return _summary(metadata.EXPERIMENT_TAG, plugin_data_pb2.HParamsPluginData(experiment=content))


def run_start(settings: Settings) -> Summary:
    """The values of a run."""
    start = plugin_data_pb2.SessionStartInfo()
    for name, value in settings.items():
        # bool before number: True is an int
        kind = "bool_value" if isinstance(value, bool) else "string_value" if isinstance(value, str) else "number_value"
        setattr(start.hparams[name], kind, value)
    return _summary(metadata.SESSION_START_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_start_info=start))


def run_end() -> Summary:
    """That a run has come to its end."""
    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS)
    return _summary(metadata.SESSION_END_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=end))


def _type(value: float | str | bool) -> int:
    name = "BOOL" if isinstance(value, bool) else "STRING" if isinstance(value, str) else "FLOAT64"
    number: int = api_pb2.DataType.Value(f"DATA_TYPE_{name}")
    return number


def _summary(tag: str, content: plugin_data_pb2.HParamsPluginData) -> Summary:
    return Summary(
        value=[Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(content), tensor=metadata.NULL_TENSOR)]
    )
