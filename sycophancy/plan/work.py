"""Closed forms: parameters, operations and bytes of a step; no JAX in here."""

from __future__ import annotations

import dataclasses

from sycophancy.config.schema import Config, NetworkConfig, TrainingConfig
from sycophancy.plan.chips import Mesh

# The stages' shapes as the planner takes them. Prompts of the paper's claims are about 100 tokens,
# a survey's with its biography about 200; two choices of three tokens with their ends.
CLAIM_SHAPE = (128, 8)
EVALUATION_SHAPE = (256, 8)
# False and true sums under three conditions, and the probes' prompts that are not among them.
ADDITION_PROMPTS = 2 * 3 * 2_500 + 3_600
SURVEYS = 3
FLOAT32_PASSES = 6  # bfloat16 products for one in float32 on a matrix unit


@dataclasses.dataclass(frozen=True)
class Flops:
    """Operations (a multiplication and an addition are two) of a forward pass.

    Attributes:
      encoder, decoder: matrix products with the layers' parameters.
      attention: products of queries with keys and of weights with values, both stacks.
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
        """What rematerialisation does again: all but the output layer."""
        return self.encoder + self.decoder + self.attention


def parameters(network: NetworkConfig) -> int:
    """How many parameters a T5 1.1 of this shape has; norms and position biases included.

    Example:
        >>> from sycophancy.config.schema import load_config
        >>> parameters(load_config("flan_t5_small", "paper").model.network)
        76961152
    """
    attention, mlp = _layer(network)
    width = network.emb_dim
    encoder = network.num_encoder_layers * (attention + mlp + 2 * width)
    decoder = network.num_decoder_layers * (2 * attention + mlp + 3 * width)
    tables = (1 if network.logits_via_embedding else 2) * network.vocab_size * width
    return encoder + decoder + tables + 2 * (width + 32 * network.num_heads)


def _layer(network: NetworkConfig) -> tuple[int, int]:
    """Parameters of one attention and of one MLP."""
    joined = network.num_heads * network.head_dim
    branches = len(network.mlp_activations) + 1
    return 4 * network.emb_dim * joined, branches * network.emb_dim * network.mlp_dim


def forward_flops(network: NetworkConfig, rows: int, inputs: int, targets: int) -> Flops:
    """Operations of one forward pass over `rows` rows; padding and masked pairs count.

    Twice each parameter and token it meets (Kaplan et al. 2020, section 2.1), where the decoder's
    cross attention meets the encoder's tokens with its keys and values, and its own with the rest;
    and twice each pair of positions, head dimension and attention product.
    """
    attention, mlp = _layer(network)
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
    """Operations of a training step: what the model needs, and what is done.

    Backward is twice forward. Rematerialisation does the layers' forward pass again ("full"), or
    the attention products only ("dots"); that is done, but not needed.
    """
    forward = forward_flops(
        network, training.batch_size, training.input_length, training.target_length
    )
    again = {"none": 0.0, "dots": forward.attention, "full": forward.layers}
    return 3 * forward.total, 3 * forward.total + again[network.remat_policy]


def state_bytes(network: NetworkConfig) -> int:
    """Parameters in float32; the optimizer's factored moments are below a hundredth of them."""
    return 4 * parameters(network)


def saved_activation_bytes(network: NetworkConfig, rows: int, inputs: int, targets: int) -> int:
    """What a forward pass keeps for the backward pass, roughly, for `rows` rows.

    Without rematerialisation, of each attention pair the softmax in float32, its product in the
    activations' dtype and the dropout mask; of each token the branches of the MLP, heads, and
    norms in float32. With "dots", the products without the pairs. With "full", the layers' inputs.
    """
    width = 2 if network.dtype == "bfloat16" else 4
    joined, heads = network.num_heads * network.head_dim, network.num_heads
    branches = len(network.mlp_activations) + 2
    encoder, decoder = network.num_encoder_layers, network.num_decoder_layers
    pairs = heads * (encoder * inputs**2 + decoder * (targets**2 + targets * inputs))
    inner = encoder * inputs + decoder * targets
    logits = 3 * 4 * targets * network.vocab_size
    carried = network.emb_dim * width * inner
    if network.remat_policy == "full":
        return rows * (carried + logits)
    products = width * (
        inner * (branches * network.mlp_dim + 4 * joined)
        + decoder * (3 * targets + 2 * inputs) * joined
    )
    if network.remat_policy == "dots":
        return rows * (carried + products + logits)
    norms = inner * network.emb_dim * 4 * 3
    return rows * (carried + products + norms + pairs * (4 + width + 2) + logits)


def step_bytes(config: Config, mesh: Mesh) -> float:
    """Bytes a chip moves to and from its memory in a training step, at least.

    Its share of the parameters is read for forward, backward and update and written once; the
    gradients are written and read; copies in the activations' dtype and what is kept of the forward
    pass are written once and read once.
    """
    network, training = config.model.network, config.training
    data, fsdp, model = mesh
    kept = saved_activation_bytes(network, 1, training.input_length, training.target_length)
    width = 2 if network.dtype == "bfloat16" else 4
    copies = training.microbatches * width * parameters(network) / model
    rows = training.batch_size / (data * fsdp)
    return 6 * state_bytes(network) / (fsdp * model) + 2 * (copies + rows * kept / model)


def scoring_bytes(network: NetworkConfig, mesh: Mesh) -> float:
    """Bytes a chip moves to and from its memory for a batch of prompts, at least.

    The parameters are read; where they are split over fsdp, what was gathered is written before.
    """
    _, fsdp, model = mesh
    return (1 if fsdp == 1 else 2) * state_bytes(network) / model


def prompts(config: Config) -> tuple[int, int]:
    """How many prompts filtration asks, and one evaluation; the latter is done twice."""
    data = config.data
    held_out = ADDITION_PROMPTS + 2 * SURVEYS * data.num_survey_items + 3 * data.num_validation
    return data.num_examples if config.filtration else 0, held_out + data.num_validation
