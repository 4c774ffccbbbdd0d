"""Operations and bytes of a training step and of a scored batch: closed forms, without JAX."""

from __future__ import annotations

import dataclasses

from sycophancy.config.schema import Config, NetworkConfig, TrainingConfig
from sycophancy.model.mesh import Shape
from sycophancy.model.size import (
    activation_bytes,
    layer_parameters,
    parameter_bytes,
    parameter_count,
    saved_activation_bytes,
)

FLOAT32_PASSES = 6  # bfloat16 products that a matrix unit needs for one in float32


@dataclasses.dataclass(frozen=True)
class Flops:
    """Operations of a forward pass; a multiplication and an addition are two.

    Attributes:
        encoder, decoder: matrix products with the layers' parameters.
        attention: products of queries with keys and of weights with values, in both stacks.
        logits: the output layer.
    """

    encoder: float
    decoder: float
    attention: float
    logits: float

    @property
    def total(self) -> float:
        return self.encoder + self.decoder + self.attention + self.logits

    @property
    def layers(self) -> float:
        """What full rematerialisation computes again: all but the output layer."""
        return self.encoder + self.decoder + self.attention


def forward_flops(network: NetworkConfig, rows: int, inputs: int, targets: int) -> Flops:
    """Operations of one forward pass; padding and masked pairs count.

    Two for each parameter and token that it multiplies (Kaplan et al. 2020, section 2.1), where the
    keys and values of cross attention multiply the encoder's tokens; and two for each pair of
    positions, head dimension and product of attention.

    Args:
        network: its shape.
        rows: rows of the batch.
        inputs: encoder positions of a row.
        targets: decoder positions of a row.
    """
    attention, mlp = layer_parameters(network)
    joined = network.num_heads * network.head_dim
    encoder = network.num_encoder_layers * (attention + mlp) * inputs
    decoder = network.num_decoder_layers * (
        (attention + attention / 2 + mlp) * targets + attention / 2 * inputs
    )
    pairs = network.num_encoder_layers * inputs * inputs + network.num_decoder_layers * (
        targets * targets + targets * inputs
    )
    logits = network.vocab_size * network.emb_dim * targets
    return Flops(
        2 * rows * encoder, 2 * rows * decoder, 4 * rows * pairs * joined, 2 * rows * logits
    )


def step_flops(network: NetworkConfig, training: TrainingConfig) -> tuple[float, float]:
    """Operations of a training step: those that the model needs, and those that are done.

    The backward pass needs twice the forward pass. Rematerialisation also repeats the layers'
    forward pass ("full") or the products of attention ("dots").
    """
    forward = forward_flops(
        network, training.batch_size, training.input_length, training.target_length
    )
    repeated = {"none": 0.0, "dots": forward.attention, "full": forward.layers}
    return 3 * forward.total, 3 * forward.total + repeated[network.remat_policy]


def step_bytes(config: Config, mesh: Shape) -> float:
    """A lower bound of the bytes that a chip moves to and from its memory in a training step.

    A chip reads its share of the parameters for the forward pass, the backward pass and the update
    and writes it once; it writes and reads the gradients; it writes and reads, once each, the
    copies in the activations' dtype and what it keeps of the forward pass.
    """
    network, training = config.model.network, config.training
    data, fsdp, model = mesh
    saved = saved_activation_bytes(network, 1, training.input_length, training.target_length)
    width = activation_bytes(network)
    copies = training.microbatches * width * parameter_count(network) / model
    rows = training.batch_size / (data * fsdp)
    return 6 * parameter_bytes(network) / (fsdp * model) + 2 * (copies + rows * saved / model)


def scoring_bytes(network: NetworkConfig, mesh: Shape) -> float:
    """A lower bound of the bytes that a chip moves to and from its memory for a scored batch.

    A chip reads the parameters; where they are split over fsdp, it writes the gathered ones first.
    """
    _, fsdp, model = mesh
    return (1 if fsdp == 1 else 2) * parameter_bytes(network) / model
