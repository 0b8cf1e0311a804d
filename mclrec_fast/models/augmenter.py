"""The learnable augmenter as a module: it holds the weights; the arithmetic is `ops.augmenter`."""

from torch import Tensor, nn

from ..ops import augmenter
from .stock import stock


@stock
class Augmenter(nn.Module):
    """D -> D/2 -> D/4 -> D, exact GELU after the first two layers, output of unit length.

    The authors divide by the L2 norm without an epsilon. Weights start in torch's own
    initialisation of `nn.Linear`, as the authors' do.
    """

    def __init__(self, hidden: int) -> None:
        """Create the three layers for representations of ``hidden`` numbers."""
        super().__init__()
        self.dense_1 = nn.Linear(hidden, hidden // 2)
        self.dense_2 = nn.Linear(hidden // 2, hidden // 4)
        self.dense_3 = nn.Linear(hidden // 4, hidden)

    def forward(self, h: Tensor, backend: str = "auto") -> Tensor:
        """The augmented view of each representation, [B, D] -> [B, D]; see `ops.augmenter`."""
        return augmenter(h, list(self.parameters()), backend=backend)
