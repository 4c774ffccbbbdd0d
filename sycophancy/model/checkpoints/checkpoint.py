"""What a checkpoint of any format holds, in T5X's unstacked layout, before an array is read."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from sycophancy.config.schema import NetworkConfig
from sycophancy.errors import UserError
from sycophancy.model.checkpoints import layout
from sycophancy.model.checkpoints.lazy_array import LazyArray

Format = Literal["hf", "t5x", "t5x-legacy", "orbax"]

# Facts of the network that its parameters' shapes do not tell, and that change its outputs.
ARCHITECTURE = ("num_heads", "head_dim", "mlp_activations", "logits_via_embedding")

FLOATS = ("float16", "bfloat16", "float32", "float64")  # others are no weights, or quantized

# The largest sizes that a checkpoint may say it has; many times those of the largest T5.
_LARGEST = {
    "vocab_size": 2**24,
    "emb_dim": 2**17,
    "num_heads": 2**12,
    "num_encoder_layers": 2**10,
    "num_decoder_layers": 2**10,
    "head_dim": 2**14,
    "mlp_dim": 2**20,
}


def check_bounds(field: str, value: Any, what: str) -> int:
    """A size of a network as some file says it.

    Args:
      field: of `NetworkConfig`.
      value: what the file says.
      what: how to name it in the message.

    Raises:
      UserError: it is not a whole number between 1 and the largest that makes sense.
    """
    if type(value) is not int or not 1 <= value <= _LARGEST[field]:
        raise UserError(
            f"{what} is {str(value)[:80]!r}, expected a whole number from 1 to {_LARGEST[field]:,}"
        )
    return value


def check_sizes(network: NetworkConfig, source: str) -> NetworkConfig:
    """`check_bounds` for all sizes of a network; returns it."""
    for field in _LARGEST:
        check_bounds(field, getattr(network, field), f"{source}: {field}")
    return network


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was looked at, not read.

    Attributes:
      source: where it is, for messages.
      format: how it is stored.
      params: parameters by T5X's path, such as `encoder/layers_0/mlp/wo/kernel`.
      network: its shape, where the checkpoint says it; T5X's formats do not.
      step: training steps behind it.
      moments: Adafactor's `v_row`, `v_col` and `v` by `<path of the parameter>/v_row` and so on;
        empty where the checkpoint has none.
      vocabulary: its SentencePiece model, where it brings one.
      other_tokenizer: its tokenizer's file in a form that is not read, where it brings one.
      tied_output: whether its output layer is a copy of the embedding that it does not scale.
      model: the name of the model it was finetuned from, where it says so.
      check_stored: raises UserError where something that its files promise is missing or unequal.
    """

    source: str
    format: Format
    params: Mapping[str, LazyArray]
    network: NetworkConfig | None = None
    step: int = 0
    moments: Mapping[str, LazyArray] = dataclasses.field(default_factory=dict)
    vocabulary: str | None = None
    other_tokenizer: str | None = None
    tied_output: bool = False
    model: str | None = None
    check_stored: Callable[[], None] = lambda: None

    def shape(self) -> NetworkConfig:
        """The network's shape as the checkpoint says it, or else as the arrays tell it."""
        return self.network or infer_network(self.params, self.source)

    def tree(self) -> dict[str, Any]:
        """The parameters in the network's stacked layout, still unread."""
        return layout.stack(layout.unflatten(self.params))

    def check(self, network: NetworkConfig) -> None:
        """Refuses to be a checkpoint of `network` if it is another's, or is incomplete.

        Raises:
          UserError: names or shapes differ, the network is built otherwise from equal shapes, or
            a part of an array is missing.
        """
        from flax import linen as nn

        from sycophancy.model.sharding import abstract_params  # shapes alone

        expected = nn.unbox(abstract_params(network))
        layout.check_shapes(
            self.params, layout.flatten(layout.unstack(_shapes(expected))), self.source
        )
        for name in ARCHITECTURE if self.network is not None else ():
            stored, wanted = getattr(self.network, name), getattr(network, name)
            if stored != wanted:
                raise UserError(
                    f"{self.source} does not fit the model: {name} is {stored} in the "
                    f"checkpoint, {wanted} in the model"
                )
        for path, leaf in {**self.params, **self.moments}.items():
            if leaf.stored_as is not None and leaf.stored_as.name not in FLOATS:
                raise UserError(
                    f"{self.source}: {path} is stored as {leaf.stored_as.name}; only "
                    f"{', '.join(FLOATS)} are read"
                )
        self.check_stored()


def infer_network(params: Mapping[str, Any], source: str) -> NetworkConfig:
    """The shape that T5X parameters have.

    Two facts are not in the shapes: a gated MLP is taken to be T5 1.1's (tanh-approximated GELU),
    an ungated one to be T5 1.0's (ReLU).

    Args:
      params: arrays by T5X's path; only `shape` is looked at.
      source: the checkpoint, for messages.

    Raises:
      UserError: these are not the parameters of a T5 in T5X's unscanned layout.
    """
    depths = {"encoder": 0, "decoder": 0}
    for path in params:
        if match := re.match(rf"(encoder|decoder)/{layout.LAYERS}_(\d{{1,9}})/", path):
            stack, layer = match.groups()
            depths[stack] = max(depths[stack], int(layer) + 1)
    gated = "encoder/layers_0/mlp/wi_0/kernel" in params
    hidden = "encoder/layers_0/mlp/wi_0/kernel" if gated else "encoder/layers_0/mlp/wi/kernel"
    try:
        vocab_size, emb_dim = params["token_embedder/embedding"].shape
        num_heads, _ = params["encoder/relpos_bias/rel_embedding"].shape
        _, joined = params["encoder/layers_0/attention/query/kernel"].shape
        _, mlp_dim = params[hidden].shape
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{source} does not hold a T5 in T5X's unscanned layout: {error} is missing or has "
            f"another rank; it has {', '.join(sorted(params)[:3])}, ..."
        ) from None
    network = NetworkConfig(
        vocab_size=vocab_size,
        emb_dim=emb_dim,
        num_heads=num_heads,
        num_encoder_layers=depths["encoder"],
        num_decoder_layers=depths["decoder"],
        head_dim=joined // max(num_heads, 1),
        mlp_dim=mlp_dim,
        mlp_activations=("gelu", "linear") if gated else ("relu",),
        logits_via_embedding="decoder/logits_dense/kernel" not in params,
    )
    return check_sizes(network, source)


def _shapes(expected: Any) -> Any:
    """`jax.ShapeDtypeStruct`s as Leafs that no one reads, so that layers can be taken of them."""
    return layout.unflatten(
        {
            path: LazyArray(s.shape, lambda: None, dtype=s.dtype)
            for path, s in layout.flatten(expected).items()
        }
    )
