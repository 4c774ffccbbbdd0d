"""An opened checkpoint of any format: names and shapes in T5X's unstacked layout, arrays unread."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

from sycophancy.config.schema import DecoderConfig, Network, NetworkConfig
from sycophancy.errors import UserError
from sycophancy.model.checkpoints import layout
from sycophancy.model.checkpoints.lazy_array import LazyArray
from sycophancy.model.parameters import ParameterTree

Format = Literal["hf", "t5x", "t5x-legacy", "orbax"]
AnyNetwork = TypeVar("AnyNetwork", bound=Network)

# Fields of the network that change its outputs and do not follow from its parameters' shapes.
ARCHITECTURE = ("num_heads", "head_dim", "mlp_activations", "logits_via_embedding")
# Fields of a `DecoderConfig` that a run sets; all others change the outputs.
_CHOSEN = ("dropout_rate", "dtype", "remat_policy")

# Arrays of other dtypes are quantized weights, or no weights at all.
FLOATS = ("float16", "bfloat16", "float32", "float64")

# The largest sizes that a checkpoint may claim to have; many times those of the largest T5.
SIZES = {
    "vocab_size": 2**24,
    "emb_dim": 2**17,
    "num_heads": 2**12,
    "num_kv_heads": 2**12,
    "num_layers": 2**10,
    "num_encoder_layers": 2**10,
    "num_decoder_layers": 2**10,
    "head_dim": 2**14,
    "mlp_dim": 2**20,
}


def check_bounds(field: str, value: object, description: str) -> int:
    """Checks a size of a network that a file states, and returns it.

    Args:
      field: the field of `NetworkConfig` or `DecoderConfig`.
      value: the value in the file.
      description: the file and the name in it, for the message.

    Raises:
      UserError: the value is not a whole number from 1 to `SIZES[field]`.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= SIZES[field]:
        raise UserError(
            f"{description} is {str(value)[:80]!r}, expected a whole number from 1 to "
            f"{SIZES[field]:,}"
        )
    return value


def check_sizes(network: AnyNetwork, source: str) -> AnyNetwork:
    """`check_bounds` for all sizes of a network; returns it."""
    for field in SIZES:
        if hasattr(network, field):
            check_bounds(field, getattr(network, field), f"{source}: {field}")
    return network


def architecture_fields(network: Network) -> tuple[str, ...]:
    """The fields that change a network's outputs and that its parameters' shapes may not show."""
    if not isinstance(network, DecoderConfig):
        return ARCHITECTURE
    return tuple(f.name for f in dataclasses.fields(network) if f.name not in _CHOSEN)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose arrays are not read yet.

    Attributes:
      source: its path or address, for messages.
      format: how it is stored.
      params: parameters by T5X's path, such as `encoder/layers_0/mlp/wo/kernel`.
      network: its shape, or None in T5X's formats, which do not store it.
      step: the number of training steps that produced it.
      moments: Adafactor's moments by `<path of the parameter>/v_row`, `.../v_col` and `.../v`;
        empty if the checkpoint has none.
      vocabulary: the path of its SentencePiece model, or None. Of a decoder-only model: the
        Hugging Face folder that holds its configuration and its tokenizer.
      other_tokenizer: the path of a tokenizer that this package does not read, or None.
      tied_output: whether its output layer is a copy of the embedding, and logits are not scaled.
      model: the name of the model it was finetuned from, or None if it is not stored.
      check_stored: raises UserError if its files are incomplete or contradict each other.
    """

    source: str
    format: Format
    params: Mapping[str, LazyArray]
    network: Network | None = None
    step: int = 0
    moments: Mapping[str, LazyArray] = dataclasses.field(default_factory=dict)
    vocabulary: str | None = None
    other_tokenizer: str | None = None
    tied_output: bool = False
    model: str | None = None
    check_stored: Callable[[], None] = lambda: None

    def shape(self) -> Network:
        """The network's shape: the stored one, or else the one that the arrays' shapes imply."""
        return self.network or infer_network(self.params, self.source)

    def tree(self) -> ParameterTree:
        """The parameters in the network's stacked layout, unread."""
        return layout.stack(layout.unflatten(self.params))

    def check(self, network: Network) -> None:
        """Checks that this is a complete checkpoint of `network`.

        Raises:
          UserError: names, shapes or `architecture_fields` differ, an array's dtype is not read, or
            a part of an array is missing.
        """
        from flax import linen as nn

        from sycophancy.model.sharding import abstract_params

        if self.network is not None and type(self.network) is not type(network):
            kinds = ("decoder-only", "an encoder-decoder")
            found, wanted = kinds if isinstance(self.network, DecoderConfig) else kinds[::-1]
            raise UserError(f"{self.source} does not fit the model: it is {found}, not {wanted}")
        expected = layout.unstack(layout.lazy(nn.unbox(abstract_params(network))))
        layout.check_shapes(self.params, layout.flatten(expected), self.source)
        for name in architecture_fields(network) if self.network is not None else ():
            stored, wanted = getattr(self.network, name), getattr(network, name)
            if stored != wanted:
                raise UserError(
                    f"{self.source} does not fit the model: {name} is {stored} in the "
                    f"checkpoint, {wanted} in the model"
                )
        for path, array in {**self.params, **self.moments}.items():
            if array.stored_as is not None and array.stored_as.name not in FLOATS:
                raise UserError(
                    f"{self.source}: {path} is stored as {array.stored_as.name}; only "
                    f"{', '.join(FLOATS)} are read"
                )
        self.check_stored()


def infer_network(params: Mapping[str, LazyArray], source: str) -> NetworkConfig:
    """Infers a network's shape from the shapes of its parameters.

    The MLP's activations do not follow from shapes. A gated MLP is assumed to be T5 1.1's
    (tanh-approximated GELU), an ungated MLP to be T5 1.0's (ReLU).

    Args:
      params: arrays by T5X's path.
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
