"""What a checkpoint of any format holds, in T5X's unstacked layout, before an array is read."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal

from sycophancy.config import NetworkConfig
from sycophancy.errors import UserError
from sycophancy.model.checkpoints import layout
from sycophancy.model.checkpoints.leaf import Leaf

Format = Literal["hf", "t5x", "t5x-legacy", "orbax"]

# Facts of the network that its parameters' shapes do not tell, and that change its outputs.
ARCHITECTURE = ("num_heads", "head_dim", "mlp_activations", "logits_via_embedding")


@dataclasses.dataclass(frozen=True)
class Contents:
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
    """

    source: str
    format: Format
    params: Mapping[str, Leaf]
    network: NetworkConfig | None = None
    step: int = 0
    moments: Mapping[str, Leaf] = dataclasses.field(default_factory=dict)
    vocabulary: str | None = None

    def shape(self) -> NetworkConfig:
        """The network's shape as the checkpoint says it, or else as the arrays tell it."""
        return self.network or infer_network(self.params, self.source)

    def tree(self) -> dict[str, Any]:
        """The parameters in the network's stacked layout, still unread."""
        return layout.stack(layout.unflatten(self.params))

    def check(self, network: NetworkConfig) -> None:
        """Refuses to be a checkpoint of `network` if it is another's.

        Raises:
          UserError: names or shapes differ, or the network is built otherwise from equal shapes.
        """
        from flax import linen as nn

        from sycophancy.training.sharding import abstract_params  # shapes alone

        expected = nn.unbox(abstract_params(network))
        layout.check_shapes(
            self.params, layout.flatten(layout.unstack(_shapes(expected))), self.source
        )
        if self.network is None:
            return
        for name in ARCHITECTURE:
            stored, wanted = getattr(self.network, name), getattr(network, name)
            if stored != wanted:
                raise UserError(
                    f"{self.source} does not fit the model: {name} is {stored} in the "
                    f"checkpoint, {wanted} in the model"
                )


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
        if match := re.match(rf"(encoder|decoder)/{layout.LAYERS}_(\d+)/", path):
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
    return NetworkConfig(
        vocab_size=vocab_size,
        emb_dim=emb_dim,
        num_heads=num_heads,
        num_encoder_layers=depths["encoder"],
        num_decoder_layers=depths["decoder"],
        head_dim=joined // num_heads,
        mlp_dim=mlp_dim,
        mlp_activations=("gelu", "linear") if gated else ("relu",),
        logits_via_embedding="decoder/logits_dense/kernel" not in params,
    )


def _shapes(expected: Any) -> Any:
    """`jax.ShapeDtypeStruct`s as Leafs that no one reads, so that layers can be taken of them."""
    return layout.unflatten(
        {
            path: Leaf(s.shape, lambda: None, dtype=s.dtype)
            for path, s in layout.flatten(expected).items()
        }
    )
