"""The names the authors' code gives to the weights, and ours. Both describe the same tensors."""

from collections.abc import Mapping

from torch import Tensor

_LAYER = {
    "multi_head_attention.query": "query",
    "multi_head_attention.key": "key",
    "multi_head_attention.value": "value",
    "multi_head_attention.dense": "output",
    "multi_head_attention.LayerNorm": "attention_norm",
    "feed_forward.dense_1": "inner",
    "feed_forward.dense_2": "outer",
    "feed_forward.LayerNorm": "feed_forward_norm",
}
_TOP = {
    "item_embedding": "item_embedding",
    "position_embedding": "position_embedding",
    "LayerNorm": "embedding_norm",
}


def encoder_name(name: str) -> str | None:
    """Our name of an encoder weight of the authors' state dict, or None if it is not one."""
    stem, _, kind = name.rpartition(".")
    if stem in _TOP:
        return f"{_TOP[stem]}.{kind}"
    parts = stem.split(".", 3)
    if parts[:2] == ["trm_encoder", "layer"] and len(parts) == 4 and parts[3] in _LAYER:
        return f"layers.{parts[2]}.{_LAYER[parts[3]]}.{kind}"
    return None


def encoder_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An `Encoder` state dict from the authors' state dict; names that are not ours are left out.

    The authors' item embedding has one row more than there are classes; its last row, which their
    code never reads, is dropped.
    """
    ours = {name: tensor for theirs, tensor in state.items() if (name := encoder_name(theirs))}
    if "item_embedding.weight" in ours:
        ours["item_embedding.weight"] = ours["item_embedding.weight"][:-1]
    return ours
