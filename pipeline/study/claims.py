"""What the study asks: sentences that its results may bear out or not, with the paper's figures where it has some.

The figures of Xian et al. (CVPR 2018) are WHDR in percent on 1,410 pairs of DIW; those over numbers of pairs and of
pictures were read off its plots. They trained on 3,600 pictures, so only the order can be compared.

    for claim in CLAIMS: claim.text, claim.comparisons, claim.paper
"""

from dataclasses import dataclass

from pipeline.study.plan import BASE

__all__ = ["BASELINE", "CLAIMS", "Claim"]

BASELINE = "lower is nearer"
"""Stands for an arm in a comparison: the baseline of that name, which is not trained."""


@dataclass(frozen=True)
class Claim:
    """A sentence to be judged."""

    text: str
    experiment: str
    comparisons: tuple[tuple[str, str], ...]
    """Arms, the better one first; all of them must hold."""
    paper: str = "not in the paper"
    """Its figures in the same order."""


CLAIMS = (
    Claim(
        "Trained on web stereo, the network orders better than “lower is nearer”",
        "losses",
        ((BASE, BASELINE),),
        "14.33 against 31.37 (DIW test)",
    ),
    Claim("Ranking is better than L1", "losses", (("ranking", "mae"),), "16.67 against 22.27"),
    Claim("Ranking is better than L2", "losses", (("ranking", "mse"),), "16.67 against 21.49"),
    Claim("Improved ranking is better than ranking", "losses", ((BASE, "ranking"),), "15.74 against 16.67"),
    Claim("Edge-guided pairs are better than random ones", "losses", (("edge_guided", BASE),)),
    Claim("100 pairs are better than 1", "pairs", (("pairs_100", "pairs_1"),), "about 16.75 against 18.65"),
    Claim("1,000 pairs are better than 100", "pairs", (("pairs_1000", "pairs_100"),), "about 15.95 against 16.75"),
    Claim("3,000 pairs are better than 1,000", "pairs", ((BASE, "pairs_1000"),), "15.74 against about 15.95"),
    Claim("More pairs are better than fewer: 3,000 than 1", "pairs", ((BASE, "pairs_1"),), "15.74 against 18.65"),
    Claim("All pictures are better than half of them", "size", ((BASE, "half"),), "15.74 against about 15.87"),
    Claim("All pictures are better than a quarter", "size", ((BASE, "quarter"),), "15.74 against about 17.3"),
    Claim("Cleaned labels are better than those of the pairs as found", "cleaning", ((BASE, "uncleaned"),)),
    Claim("Crops and mirrors are better than none", "augment", ((BASE, "augment_none"),)),
)
