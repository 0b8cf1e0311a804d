"""A whole update of a batch as one call of kernels, weights and their Adam included.

The kernels and the order are those of the updates by hand, so the bits are theirs; no Python comes
between them, which costs milliseconds once the kernels have driven it out of cache. For batches in
one part, the softmax over all items, and models whose weights all move; see `base.Update.in_one`.
"""

from torch import Tensor, nn

from .. import _native
from ..losses.softmax import Softmax
from ..ops import PackedSequences
from ..ops._shared import signed_seed
from ..ops.update import update_step
from .base import Moments, Pass
from .encoder import Encoder, EncoderModel
from .options import MCLRecOptions

_NONE: list[Tensor] = []


class InOne:
    """The calls of one model, whose weights stay the tensors they are."""

    def __init__(self, encoder: Encoder, augmenters: nn.ModuleList | None = None) -> None:
        """For this encoder, and augmenters: two, one shared by both views, or none."""
        self._encoder, self._weights = encoder, encoder.weights()
        self._augmenters = [] if augmenters is None else list(augmenters.parameters())

    @staticmethod
    def possible(model: EncoderModel) -> bool:
        """Whether there is such a call for this model's loss, where its weights lie."""
        return type(model.loss) is Softmax and _native.has_kernel("update_step", model.device)

    def __call__(
        self,
        packed: PackedSequences,
        targets: Tensor | None,
        at: Pass,
        *,
        encoder: Moments | None = None,
        augmenters: Moments | None = None,
        options: MCLRecOptions | None = None,
    ) -> Tensor:
        """Move the weights that come with moments down L0, or without targets down L1.

        Args:
            packed: what is encoded: B histories, for contrastive models both views of each behind;
                without targets the views alone.
            targets: int64 [B], or None.
            at: random draws.
            encoder: of the encoder's weights, None where they stay.
            augmenters: of the augmenters'.
            options: what the terms count, for models that have views.

        Returns:
            L_rec, L_cl1, L_cl2, R and the whole, [5]; 0 what there is not.
        """
        arguments = self._encoder.arguments(signed_seed(at.seed), int(at.update))
        of_contrast = (1.0, False, 0.0, 0.0, 0.0)
        if options is not None:
            of_contrast = (
                options.temperature,
                options.similarity == "cos",
                options.lambda_,
                options.beta,
                options.gamma,
            )
        some = encoder or augmenters
        assert some is not None
        return update_step(
            *packed,
            targets,
            self._weights,
            self._augmenters,
            *arguments,
            *of_contrast,
            encoder.tensors if encoder else _NONE,
            augmenters.tensors if augmenters else _NONE,
            encoder.learning_rate if encoder else 0.0,
            augmenters.learning_rate if augmenters else 0.0,
            *some.constants,
        )
