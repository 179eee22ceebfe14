"""The network, its losses and its weights: pure torch and safetensors.

from model import DepthNet
net = DepthNet.from_pretrained("runs/webstereo")
inverse_depth = net(image)  # (B, 3, H, W) in 0..1 -> (B, H, W), larger = nearer
"""

from model.config import LossConfig, ModelConfig
from model.depthnet import DepthNet

__all__ = ["DepthNet", "LossConfig", "ModelConfig"]
