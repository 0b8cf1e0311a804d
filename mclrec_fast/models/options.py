"""What a model is: its options, one dataclass per model, the only place where their defaults live.

Holds no torch, so that a command line can say what there is at once. How a model is trained is
config.py's `TrainConfig`; what it computes is the file of its name in this folder.
"""

from dataclasses import dataclass
from typing import ClassVar

from ..config_keys import option
from ..errors import InputError
from ..losses import LOSSES


@dataclass(frozen=True)
class ModelOptions:
    """What every model has: a name, and checks of what its options mean together."""

    name: ClassVar[str]
    max_length: int = option(50, "items of history the model sees (L)", low=1)

    def check(self) -> None:
        """Refuse options that do not fit each other.

        Raises:
            InputError: naming them.
        """


@dataclass(frozen=True)
class EncoderOptions(ModelOptions):
    """SASRec's encoder."""

    hidden_size: int = option(64, "width of the encoder (D)", low=1)
    layers: int = option(2, "transformer layers", low=1, high=255)
    heads: int = option(2, "attention heads, a divisor of hidden_size", low=1)
    inner_size: int = option(256, "width of the feed-forward layers", low=1)
    hidden_dropout: float = option(0.5, "dropout of hidden states", low=0, below=1)
    attention_dropout: float = option(0.5, "dropout of attention weights", low=0, below=1)
    layer_norm_eps: float = option(1e-12, "epsilon of every LayerNorm", low=0)
    init_std: float = option(0.02, "deviation of the encoder's initial weights", above=0)
    loss: str = option(next(iter(LOSSES)), "loss against the catalogue (L_rec)", choices=LOSSES)
    loss_negatives: int = option(256, "sampled losses: items drawn for a batch", low=1)
    gbce_t: float = option(0.75, "gbce: calibration, 0 (plain BCE) to 1", low=0, high=1)

    def check(self) -> None:
        """The heads share the width."""
        if self.hidden_size % self.heads:
            raise InputError(
                f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}"
            )


@dataclass(frozen=True)
class SASRecOptions(EncoderOptions):
    """SASRec (Kang & McAuley, ICDM 2018) with the cross-entropy over all items."""

    name = "sasrec"


@dataclass(frozen=True)
class ViewOptions(EncoderOptions):
    """An encoder whose two stochastic views of a history are contrasted."""

    crop_ratio: float = option(0.5, "part of a history that a crop removes", low=0, below=1)
    mask_ratio: float = option(0.5, "part of a history that a mask hides", low=0, below=1)
    reorder_ratio: float = option(0.8, "part of a history that a reorder permutes", low=0, high=1)
    temperature: float = option(1.0, "temperature of the encoder views' contrast", above=0)
    similarity: str = option(
        "dot", "similarity of the encoder views' contrast", choices=("dot", "cos")
    )


@dataclass(frozen=True)
class CL4SRecOptions(ViewOptions):
    """CL4SRec (Xie et al., ICDE 2022): SASRec and the contrast of two stochastic views."""

    name = "cl4srec"
    lambda_: float = option(0.1, "weight of the encoder views' contrast", key="lambda", above=0)


@dataclass(frozen=True)
class MCLRecOptions(ViewOptions):
    """MCLRec (Qin et al., SIGIR 2023): learned views beside the stochastic ones."""

    name = "mclrec"
    lambda_: float = option(0.0, "weight of the encoder views' contrast", key="lambda", low=0)
    beta: float = option(0.05, "weight of the augmented views' contrast", low=0)
    gamma: float = option(0.1, "weight of the regulariser beside that contrast", low=0)
    shared_augmenter: bool = option(False, "one augmenter for both views")
    schedule: str = option(
        "official", "updates of a batch", flag=True, choices=("paper", "official", "joint")
    )
    reuse_views: bool = option(
        False, "`official`: the third update shares the second's views and their dropout draws"
    )

    def check(self) -> None:
        """The augmenters narrow the width to a quarter."""
        super().check()
        if self.hidden_size < 4:
            raise InputError(
                "hidden_size must be at least 4: the augmenters narrow it to a quarter"
            )
        if self.reuse_views and self.schedule != "official":
            raise InputError(
                "reuse_views needs schedule official, whose third update reuses the second's "
                f"views; {self.schedule} has no third"
            )


@dataclass(frozen=True)
class GRU4RecOptions(ModelOptions):
    """GRU4Rec (Hidasi et al., ICLR 2016) with the cross-entropy over all items."""

    name = "gru4rec"
    hidden_size: int = option(64, "width of the encoder (D)", low=1)
    layers: int = option(1, "recurrent layers", low=1, high=255)
    hidden_dropout: float = option(0.5, "dropout of hidden states", low=0, below=1)
    init_std: float = option(0.02, "deviation of the encoder's initial weights", above=0)
    loss: str = option(next(iter(LOSSES)), "loss against the catalogue (L_rec)", choices=LOSSES)
    loss_negatives: int = option(256, "sampled losses: items drawn for a batch", low=1)
    gbce_t: float = option(0.75, "gbce: calibration, 0 (plain BCE) to 1", low=0, high=1)


@dataclass(frozen=True)
class PopularityOptions(ModelOptions):
    """The popularity floor: every item's count in training, the same for everybody."""

    name = "popularity"


OPTIONS: dict[str, type[ModelOptions]] = {
    options.name: options
    for options in (
        MCLRecOptions,
        SASRecOptions,
        CL4SRecOptions,
        GRU4RecOptions,
        PopularityOptions,
    )
}
"""Every model by its name; the first is the default."""
