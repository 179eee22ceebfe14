"""What to cite for a network: the papers of its decoder, of its loss, and of the data it all rests on.

text = citations(ModelConfig(name="midas"), LossConfig(name="ranking"))  # BibTeX
"""

from model.config import LossConfig, ModelConfig

__all__ = ["citations"]

_REDWEB = """@inproceedings{xian2018monocular,
  title     = {Monocular Relative Depth Perception with Web Stereo Data Supervision},
  author    = {Xian, Ke and Shen, Chunhua and Cao, Zhiguo and Lu, Hao and Xiao, Yang and Li, Ruibo and Luo, Zhenbo},
  booktitle = {Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2018}
}
"""
_SGR = """@inproceedings{xian2020structure,
  title     = {Structure-Guided Ranking Loss for Single Image Depth Prediction},
  author    = {Xian, Ke and Zhang, Jianming and Wang, Oliver and Mai, Long and Lin, Zhe and Cao, Zhiguo},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2020}
}
"""
_MIDAS = """@article{ranftl2022towards,
  title   = {Towards Robust Monocular Depth Estimation: Mixing Datasets for Zero-Shot Cross-Dataset Transfer},
  author  = {Ranftl, Ren{\\'e} and Lasinger, Katrin and Hafner, David and Schindler, Konrad and Koltun, Vladlen},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence},
  volume  = {44},
  number  = {3},
  year    = {2022}
}
"""


def citations(config: ModelConfig, loss: LossConfig | None) -> str:
    """BibTeX entries, the one of CVPR 2018 first: learning order from web stereo pictures is its idea.

    Args:
        config: The network.
        loss: What it was trained with, None where that is not known.
    """
    entries = [_REDWEB]
    # The gradient term beside a ranking is of CVPR 2020, beside `ssi_mae` of MiDaS.
    ranks_gradients = loss is not None and loss.name.endswith("ranking") and loss.gradient_weight > 0
    if config.name == "sgr" or ranks_gradients:
        entries.append(_SGR)
    if config.name == "midas" or (loss is not None and loss.name == "ssi_mae"):
        entries.append(_MIDAS)
    return "\n".join(entries)
