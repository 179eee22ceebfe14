"""What in a run depends on how a step is split over processes and micro-batches, apart from rounding.

for line in split_dependence(config): print(line)
"""

from pipeline.train.config import RunConfig

__all__ = ["split_dependence"]


def split_dependence(config: RunConfig) -> list[str]:
    """One sentence for each part of the computation that another split of the same batch would change."""
    model, loss = config.model, config.loss
    lines = []
    if not model.encoder.startswith("convnext") and not model.freeze_bn:
        lines.append(
            "the encoder's batch norms use the statistics of a micro-batch; model.freeze_bn=true keeps them out"
        )
    if model.name == "sgr":
        lines.append("the batch norms of the decoder sgr use the statistics of a micro-batch")
    if model.encoder.startswith("convnext"):
        lines.append(
            "the ConvNeXt encoder leaves out residual branches at random, by process and by a picture's place in its "
            "micro-batch"
        )
    if loss.name == "improved_ranking" and loss.scope == "batch":
        lines.append("loss.scope=batch ranks the pairs of a micro-batch; loss.scope=image those of each picture")
    return lines
