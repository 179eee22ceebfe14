"""The section of a model card on how to use the network; its snippets run as they stand, in the card's folder.

text = usage((384, 384), has_onnx=True)
"""

__all__ = ["usage"]


def usage(size_hw: tuple[int, int], *, has_onnx: bool) -> str:
    """The section, in Markdown.

    Args:
        size_hw: Height and width in pixels of the pictures that the network was trained on.
        has_onnx: Whether to show `model.onnx` as well.
    """
    height, width = size_hw
    text = f"""## Use

In an installed checkout of DepthRank (`pip install -e .`), and in this folder:

```python
import numpy as np
from PIL import Image

from model import DepthNet
from pipeline.eval.predict import Predictor

net = DepthNet.from_pretrained(".")  # or its name on the Hugging Face Hub: "owner/name"
picture = np.asarray(Image.open("photo.jpg").convert("RGB"))
inverse_depth = Predictor(net, "cpu")(picture)  # (H, W) float32 of the picture's size, larger = nearer
```

`net(image)` itself takes (B, 3, H, W) RGB, uint8 or float in 0..1, of any size; `Predictor` first scales the
picture to about the area of the training pictures ({height} x {width} pixels), because how large things appear matters.
"""
    if has_onnx:
        text += f"""
Without DepthRank, by ONNX Runtime. Batch, height and width are free; the padding to multiples of 32 is in the graph:

```python
import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
picture = Image.open("photo.jpg").convert("RGB").resize(({width}, {height}))  # width, height
image = np.asarray(picture, np.float32).transpose(2, 0, 1)[None] / 255  # (1, 3, H, W), RGB in 0..1
(inverse_depth,) = session.run(["inverse_depth"], {{"image": image}})  # (1, H, W), larger = nearer
```
"""
    return text
