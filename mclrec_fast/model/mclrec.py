"""The model whole: one encoder, and the two augmenters where the method has them."""

from torch import Tensor, nn

from ..config import Config
from .augmenter import Augmenter
from .encoder import Encoder


class MCLRec(nn.Module):
    """MCLRec, and its relatives SASRec and CL4SRec, which are the encoder alone.

    Attributes:
        encoder: the sequence encoder.
        augmenter_1: w1, acting on the first view; None without augmenters.
        augmenter_2: w2, acting on the second; the same module as w1 when shared.
    """

    def __init__(self, n_classes: int, config: Config) -> None:
        """Create the weights for ``n_classes`` item classes, padding id 0 included."""
        super().__init__()
        self.encoder = Encoder(n_classes, config.model)
        self.augmenter_1: Augmenter | None = None
        self.augmenter_2: Augmenter | None = None
        if config.model.model == "mclrec":
            self.augmenter_1 = Augmenter(config.model.hidden_size)
            self.augmenter_2 = (
                self.augmenter_1
                if config.model.shared_augmenter
                else Augmenter(config.model.hidden_size)
            )

    @property
    def augmenters(self) -> tuple[Augmenter, Augmenter] | None:
        """Both augmenters; one module twice when it is shared; None where the method has none."""
        if self.augmenter_1 is None or self.augmenter_2 is None:
            return None
        return self.augmenter_1, self.augmenter_2

    def augmenter_weights(self) -> list[Tensor]:
        """The weights of both augmenters, those of a shared one once."""
        return [] if self.augmenters is None else list(nn.ModuleList(self.augmenters).parameters())
