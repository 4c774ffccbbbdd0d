"""Operations and bytes of a training step and of a scored batch: closed forms, without JAX."""

from __future__ import annotations

import dataclasses
import itertools

from sycophancy.config.schema import Config, DecoderConfig, Network, TrainingConfig
from sycophancy.model.mesh import Shape
from sycophancy.model.size import (
    QUERY_BLOCK,
    SPARSE_CHUNK,
    activation_bytes,
    decoder_layer_parameters,
    layer_parameters,
    parameter_bytes,
    parameter_count,
    saved_activation_bytes,
    state_bytes,
)

FLOAT32_PASSES = 6  # bfloat16 products that a matrix unit needs for one in float32
# Of items scored in bfloat16, those that are scored in float32, too: a sample of a fixed number for
# each stage, and a share whose decisions are close (docs/scaling.md has the measured ones).
SAMPLED, CLOSE_SHARE = 256, 0.05


@dataclasses.dataclass(frozen=True)
class Flops:
    """Operations of a forward pass; a multiplication and an addition are two.

    Attributes:
        encoder, decoder: matrix products with the layers' parameters; a decoder-only model has no
            encoder.
        attention: products of queries with keys and of weights with values, in all layers.
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


def forward_flops(network: Network, rows: int, inputs: int, targets: int) -> Flops:
    """Operations of one forward pass; padding and masked pairs count.

    Two for each parameter and token that it multiplies (Kaplan et al. 2020, section 2.1), where the
    keys and values of cross attention multiply the encoder's tokens; and two for each pair of
    positions, head dimension and product of attention. In a row of a decoder-only model, targets
    stand behind inputs, and logits are computed for the targets alone.

    Args:
        network: its shape.
        rows: rows of the batch.
        inputs: encoder positions of a row.
        targets: decoder positions of a row.
    """
    if isinstance(network, DecoderConfig):
        return _decoder_flops(network, rows, inputs + targets, targets)
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


def _decoder_flops(network: DecoderConfig, rows: int, length: int, predicted: int) -> Flops:
    """Operations of a forward pass that computes logits at `predicted` positions of a row.

    A block of queries is not multiplied by the keys behind it.
    """
    tokens = network.num_layers * sum(decoder_layer_parameters(network)) * length
    ends = [*range(QUERY_BLOCK, length, QUERY_BLOCK), length]
    seen = sum((end - start) * end for start, end in itertools.pairwise([0, *ends]))
    pairs = network.num_layers * seen * network.num_heads * network.head_dim
    logits = network.vocab_size * network.emb_dim * predicted
    return Flops(0.0, 2.0 * rows * tokens, 4.0 * rows * pairs, 2.0 * rows * logits)


def logit_chunks(training: TrainingConfig) -> tuple[int, int]:
    """Of the chunks of a decoder-only model's row: how many have logits, and how many there are.

    The loss computes a chunk of positions if one of them counts in any row of a batch. That depends
    on the data; a row is taken to have as many tokens that count as TASK_FEATURE_LENGTHS allows a
    target.
    """
    length = training.input_length + training.target_length
    return -(-training.target_length // SPARSE_CHUNK), -(-length // SPARSE_CHUNK)


def step_flops(network: Network, training: TrainingConfig) -> tuple[float, float]:
    """Operations of a training step: those that the model needs, and those that are done.

    The backward pass needs twice the forward pass. Rematerialisation also repeats the layers'
    forward pass ("full") or the products of attention ("dots"); and a decoder-only model computes
    the logits and the scores of attention again.
    """
    rows, inputs, targets = training.batch_size, training.input_length, training.target_length
    if isinstance(network, DecoderConfig):
        predicted = logit_chunks(training)[0] * SPARSE_CHUNK
        forward = _decoder_flops(network, rows, inputs + targets, predicted)
        again = forward.logits + forward.attention / 2
    else:
        forward, again = forward_flops(network, rows, inputs, targets), 0.0
    repeated = {"none": 0.0, "dots": forward.attention, "full": forward.layers}
    return 3 * forward.total, 3 * forward.total + again + repeated[network.remat_policy]


def step_bytes(config: Config, mesh: Shape) -> float:
    """A lower bound of the bytes that a chip moves to and from its memory in a training step.

    A chip reads its share of the parameters for the forward pass, the backward pass and the update
    and writes it once; it writes and reads the gradients, and reads and writes the optimizer's
    moments; it writes and reads, once each, the copies in the activations' dtype and what it keeps
    of the forward pass.
    """
    network, training = config.model.network, config.training
    data, fsdp, model = mesh
    saved = saved_activation_bytes(network, 1, training.input_length, training.target_length)
    width = activation_bytes(network)
    copies = training.microbatches * width * parameter_count(network) / model
    rows = training.batch_size / (data * fsdp)
    moments = state_bytes(network, training.optimizer) - 2 * parameter_bytes(network)
    shared = 6 * parameter_bytes(network) + 2 * moments
    return shared / (fsdp * model) + 2 * (copies + rows * saved / model)


def working_bytes(network: DecoderConfig, mesh: Shape) -> float:
    """Bytes on a chip of what a training step of a decoder-only model holds besides its state.

    These are the parameters in the activations' dtype, three arrays of the size of the output layer
    in float32 for its gradient, and, where fsdp splits the parameters, two whole layers.
    """
    _, fsdp, model = mesh
    width = activation_bytes(network)
    copies = width * parameter_count(network) if width < 4 else 0
    output = 3 * 4 * network.vocab_size * network.emb_dim
    layers = 2 * width * sum(decoder_layer_parameters(network)) / model if fsdp > 1 else 0.0
    return (copies + output) / (fsdp * model) + layers


def scoring_bytes(network: Network, mesh: Shape) -> float:
    """A lower bound of the bytes that a chip moves to and from its memory for a scored batch.

    A chip reads the parameters; where they are split over fsdp, it writes the gathered ones first.
    """
    _, fsdp, model = mesh
    return (1 if fsdp == 1 else 2) * parameter_bytes(network) / model
