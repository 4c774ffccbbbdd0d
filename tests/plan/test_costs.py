"""Operations by closed forms are those that XLA counts."""

import dataclasses

import decoder_networks
import jax
import jax.numpy as jnp
import pytest

from sycophancy.config.load import load_config
from sycophancy.config.schema import Lengths, NetworkConfig, TrainingConfig
from sycophancy.data.training_rows import DECODER_FEATURES
from sycophancy.model import layers, sharding
from sycophancy.model.size import parameter_count
from sycophancy.plan import costs
from sycophancy.plan.hlo import Program
from sycophancy.scoring import answers
from sycophancy.training.step import make_program

SMALL = NetworkConfig(
    vocab_size=96,
    emb_dim=32,
    num_heads=4,
    num_encoder_layers=2,
    num_decoder_layers=3,
    head_dim=8,
    mlp_dim=64,
)


def test_a_step_is_near_six_operations_a_parameter_and_token():
    """Each stack's parameters meet its own tokens; attention's pairs add a few percent."""
    config = load_config("flan_t5_xxl", "paper")
    network, training = config.model.network, config.training
    tables = 2 * network.vocab_size * network.emb_dim
    stacks = parameter_count(network) - tables
    decoder = dataclasses.replace(network, num_encoder_layers=0)
    of_decoder = parameter_count(decoder) - tables
    tokens = training.batch_size * training.input_length
    targets = training.batch_size * training.target_length
    six = 6 * ((stacks - of_decoder) * tokens + (of_decoder + tables / 2) * targets)
    needed, done = costs.step_flops(network, training)
    # Above: cross attention's keys and values meet the prompt's tokens, and attention's pairs.
    assert six < needed < 1.25 * six
    assert done == needed


def _unrolled_flops(network, inputs, targets, *, gradient):
    from sycophancy.model.network import Transformer
    from sycophancy.model.sharding import nn

    model = Transformer(network)
    tokens = jnp.ones((2, inputs), jnp.int32), *(jnp.ones((2, targets), jnp.int32),) * 2
    params = nn.unbox(jax.eval_shape(model.init, jax.random.key(0), *tokens)["params"])

    def loss(params):
        return jnp.sum(model.apply({"params": params}, *tokens))

    step = jax.jit(jax.grad(loss) if gradient else loss)
    compiled = step.trace(params).lower().compile()
    analysis = compiled.cost_analysis()
    return (analysis[0] if isinstance(analysis, list) else analysis)["flops"]


@pytest.mark.parametrize("gradient", [False, True])
def test_closed_form_agrees_with_xlas_count_of_an_unrolled_model(gradient):
    """XLA also counts elementwise work, so it is above, less so the wider the model."""
    network = dataclasses.replace(SMALL, emb_dim=256, num_heads=8, head_dim=32, mlp_dim=512)
    counted = _unrolled_flops(network, 32, 8, gradient=gradient)
    expected = costs.forward_flops(network, 2, 32, 8).total * (3 if gradient else 1)
    assert expected == pytest.approx(counted, rel=0.05)


@pytest.mark.parametrize("kind", decoder_networks.KINDS)
def test_operations_of_a_decoder_only_step_are_those_of_the_compiled_program(kind):
    """The loss computes the chunks that count, which the compiled program does not say.

    Of unrolled layers, XLA's CPU backend keeps scores of attention that it should compute again.
    """
    deep = {"num_layers": layers.UNROLLED_DEPTH + 1}
    network = dataclasses.replace(decoder_networks.KINDS[kind], vocab_size=64, **deep)
    training = TrainingConfig(batch_size=2, task_feature_lengths=Lengths(48, 16))
    mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
    program = make_program(network, training, mesh)
    rows = jax.ShapeDtypeStruct((2, 64), jnp.int32)
    with jax.set_mesh(mesh):
        step = program.step.trace(program.state, dict.fromkeys(DECODER_FEATURES, rows))
        text = step.lower().compile().as_text()
    wanted, chunks = costs.logit_chunks(training)
    assert (wanted, chunks) == (1, 4)
    assert Program(text, wanted / chunks).matmul_flops() == costs.step_flops(network, training)[1]


@pytest.mark.parametrize("kind", decoder_networks.KINDS)
def test_operations_of_decoder_only_scoring_are_those_of_the_compiled_program(kind):
    network = decoder_networks.KINDS[kind]
    mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
    batch = [jax.ShapeDtypeStruct((3, length), jnp.int32) for length in (12, 6, 6)]
    with jax.set_mesh(mesh):
        traced = answers.make_program(network, mesh).trace(
            sharding.sharded_params(network, mesh), *batch
        )
        text = traced.lower().compile().as_text()
    assert Program(text).matmul_flops() == costs.forward_flops(network, 3, 12, 6).total


def test_matrix_products_of_a_compiled_scan_match_the_closed_form():
    """The parser on what this machine's XLA makes of a network deep enough to be a loop."""
    from sycophancy.model.network import Transformer
    from sycophancy.model.sharding import nn

    network = dataclasses.replace(SMALL, num_encoder_layers=6, num_decoder_layers=5)
    model = Transformer(network)
    tokens = [jnp.ones((2, length), jnp.int32) for length in (16, 4, 4)]
    params = nn.unbox(jax.eval_shape(model.init, jax.random.key(0), *tokens)["params"])
    step = jax.jit(lambda params: model.apply({"params": params}, *tokens))
    program = Program(step.trace(params).lower().compile().as_text())
    assert program.matmul_flops() == costs.forward_flops(network, 2, 16, 4).total
