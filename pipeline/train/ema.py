"""The exponential moving average of a network's weights, which is what is evaluated and exported where it is on.

ema = AveragedWeights(net, decay=0.999)
ema.update()                    # after each update of `net`
figures = evaluate(ema.net)
"""

import copy
from collections.abc import Mapping

from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from model import DepthNet

__all__ = ["AveragedWeights", "decay_of_update"]


def decay_of_update(decay: float, num_updates: int) -> float:
    """Share of the former average that one update keeps: small at first, so that the initial weights are soon gone.

    The rule of TensorFlow's `tf.train.ExponentialMovingAverage(decay, num_updates)`.

    Args:
        decay: The share in the long run.
        num_updates: Updates of the average before this one.
    """
    return min(decay, (1 + num_updates) / (10 + num_updates))


class AveragedWeights:
    """A copy of a network that follows it slowly.

    Parameters and the statistics of batch norms are averaged alike, as by timm (`ModelEmaV3`) and in the official code
    of EfficientNet: averaged weights need statistics of the same span of steps. Counters are copied. Every process gets
    the same averages of the parameters without asking the others. The statistics differ a little: data parallelism
    begins each step with the main process's, to which each adds those of its own batch. The main process's are
    evaluated and saved.

    Attributes:
        net: The copy, on the device of the original and in evaluation mode.
        num_updates: How often it has been updated.
    """

    def __init__(self, net: DepthNet, decay: float) -> None:
        """Start from `net` as it is; it must stay on its device from now on."""
        self.net: DepthNet = copy.deepcopy(net).requires_grad_(False).eval()
        self.num_updates = 0
        self._decay = decay
        # The tensors themselves: both networks change them in place only, when they are trained and when restored.
        both = list(zip(self.net.state_dict().values(), net.state_dict().values(), strict=True))
        self._averaged = [pair for pair in both if pair[0].is_floating_point()]
        self._copied = [pair for pair in both if not pair[0].is_floating_point()]

    def update(self) -> None:
        """Take in the present weights of the network; call after each update of them. The host does not wait."""
        decay = decay_of_update(self._decay, self.num_updates)
        averages, weights = (list(tensors) for tensors in zip(*self._averaged, strict=True))
        get_ema_multi_avg_fn(decay)(averages, weights, None)
        for copied, counter in self._copied:
            copied.copy_(counter)
        self.num_updates += 1

    def restore(self, tensors: Mapping[str, Tensor], num_updates: int) -> None:
        """Continue from `net.state_dict()` and `num_updates` of an earlier session, bit for bit.

        Raises:
            RuntimeError: The tensors are of another network.
        """
        self.net.load_state_dict(tensors)
        self.num_updates = num_updates
