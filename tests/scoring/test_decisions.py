"""Scoring in bfloat16 decides as scoring in float32 does, and says what it scored again."""

import dataclasses
import functools
import itertools
import random

import decoder_networks
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import Mesh

from sycophancy.config.load import load_config
from sycophancy.config.schema import NetworkConfig
from sycophancy.data import addition
from sycophancy.evaluation.items import Item
from sycophancy.model.network import Transformer
from sycophancy.model.sharding import make_mesh
from sycophancy.model.vocabulary import Vocabulary
from sycophancy.scoring.answers import answer
from sycophancy.scoring.batching import Question
from sycophancy.scoring.decisions import decide, resolved
from sycophancy.scoring.score import read_questions

T5 = NetworkConfig(
    vocab_size=48,
    emb_dim=16,
    num_heads=2,
    num_encoder_layers=2,
    num_decoder_layers=2,
    head_dim=8,
    mlp_dim=32,
)
TIED = dataclasses.replace(T5, logits_via_embedding=True)
UNTIED_LLAMA = dataclasses.replace(decoder_networks.LLAMA, vocab_size=48)
TIED_GEMMA = dataclasses.replace(decoder_networks.GEMMA, vocab_size=48)
NETWORKS = {"t5": T5, "tied t5": TIED, "llama": UNTIED_LLAMA, "gemma": TIED_GEMMA}


def tokens(text: str) -> np.ndarray:
    """One token a character: `a` is 10, `b` is 11, ..."""
    return np.array([ord(c) - ord("a") + 10 for c in text], np.int32)


@functools.cache
def params(name: str):
    network = NETWORKS[name]
    if name in decoder_networks.KINDS:
        return jax.tree.map(np.asarray, decoder_networks.draw(network))
    return drawn(network)


def drawn(network: NetworkConfig):
    token = np.ones((1, 1), np.int32)
    shapes = jax.eval_shape(Transformer(network).init, jax.random.key(0), token, token, token)
    draw = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: draw.normal(0, 0.4, leaf.shape).astype(np.float32),
        nn.meta.unbox(shapes)["params"],
    )


def questions(count: int = 300, seed: int = 0) -> list[Question]:
    """Prompts of many lengths, with choices of one length, free text, and single choices."""
    draw = random.Random(seed)

    def text(length):
        return "".join(draw.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(length))

    asked = []
    for number in range(count):
        question = Question(tokens(text(draw.randint(1, 24))))
        for kind in draw.sample(("same", "free", "one"), draw.randint(1, 3)):
            length = draw.randint(1, 3)
            sizes = {
                "same": [length] * draw.randint(2, 4),
                "free": [draw.randint(1, 4) for _ in range(3)],
                "one": [1],
            }[kind]
            choices = tuple(dict.fromkeys(text(size) for size in sizes))
            if kind == "same" and len(choices) < 2:
                choices = ("a", "b")
            name = f"{number}/{kind}"
            question.items.append(
                Item(name, "t", "neutral", name, name, choices, free_text=kind == "free")
            )
            question.choices |= {choice: tokens(choice) for choice in choices}
        asked.append(question)
    return asked


def decisions(asked: list[Question]) -> dict[str, tuple[int | bool, ...]]:
    """What the measures read from predictions: the likeliest choice, by each comparison."""
    found = {}
    for question in asked:
        for item in question.items:
            prediction = question.prediction(item)
            sums = np.array(prediction.log_likelihoods, np.float64)
            scores = [sums]
            if item.free_text:
                scores = [sums / prediction.tokens, sums / [len(c) for c in item.choices]]
            found[item.item_id] = (
                (prediction.greedy[0],)
                if len(item.choices) == 1
                else tuple(int(score.argmax()) for score in scores)
            )
    return found


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("t5", (-1, 1, 1)),
        ("llama", (2, 2, 2)),
        pytest.param("tied t5", (2, 2, 2), marks=pytest.mark.slow),
        pytest.param("gemma", (-1, 1, 1), marks=pytest.mark.slow),
        pytest.param("t5", (2, 2, 2), marks=pytest.mark.slow),
        pytest.param("llama", (1, 4, 2), marks=pytest.mark.slow),
    ],
)
def test_decisions_are_those_of_float32(name, shape):
    """On eight devices that share rows, or parameters, too."""
    network, mesh, reports = NETWORKS[name], make_mesh(shape), []
    asked, alone = questions(), questions()
    answer(params(name), network, alone, dtype="bfloat16", mesh=mesh)
    decide(
        params(name),
        network,
        asked,
        dtype="bfloat16",
        mesh=mesh,
        on_rescoring=reports.append,
        sample=20,
    )
    answer(params(name), network, in_float32 := questions(), mesh=mesh)
    exact = decisions(in_float32)
    differing = sum(exact[key] != found for key, found in decisions(alone).items())
    assert differing > 0  # or this would show nothing
    assert decisions(asked) == exact
    (report,) = reports
    assert report.items == sum(len(question.items) for question in asked)
    # A decision of free text counts twice here, and as one item there.
    assert 0 < report.changed <= differing
    assert report.sampled + report.rescored < report.items
    assert all(report.bounds[kind] == 2 * report.largest[kind] > 0 for kind in report.bounds)


def one_device() -> Mesh:
    """Compiles faster than eight."""
    return make_mesh((1, 1, 1), jax.devices()[:1])


@pytest.mark.parametrize("name", ["t5", "llama"])
def test_logits_and_sums_are_float32(name):
    """Leads of rounded logits would mostly be numbers of bfloat16, too."""
    asked = questions(40)
    answer(params(name), NETWORKS[name], asked, dtype="bfloat16", mesh=one_device())
    leads = [answered.lead for question in asked for answered in question.answers.values()]
    rounded = np.asarray(leads, np.float32).astype(jnp.bfloat16).astype(np.float32)
    assert (rounded != np.float32(leads)).mean() > 0.9


def test_parameters_on_devices_serve_as_those_of_the_host_do():
    asked, others = questions(40), questions(40)
    decide(params("t5"), T5, asked, dtype="bfloat16", sample=5, mesh=one_device())
    on_devices = jax.tree.map(jnp.asarray, params("t5"))
    decide(on_devices, T5, others, dtype="bfloat16", sample=5, mesh=one_device())
    assert decisions(asked) == decisions(others)
    assert on_devices["token_embedder"]["embedding"].dtype == jnp.float32


def test_matrices_are_on_the_devices_in_one_type_at_a_time():
    """Parameters of a shape that no other test has, seen whenever a batch is done."""
    network = dataclasses.replace(T5, emb_dim=24)
    on_host = drawn(network)
    seen = []

    def look(done, total):
        shapes = ((48, 24), (2, 24, 32))
        types = {str(a.dtype) for a in jax.live_arrays() if a.shape in shapes}
        seen.append((done, total, *types))

    asked = questions(40)
    decide(
        on_host,
        network,
        asked,
        dtype="bfloat16",
        sample=5,
        mesh=one_device(),
        progress=look,
    )
    types = [entry[2:] for entry in seen]
    assert types == sorted(types)  # bfloat16 before float32
    assert set(types) == {("bfloat16",), ("float32",)}
    done = [entry[0] for entry in seen]
    assert done == sorted(set(done))
    assert seen[-1][0] == seen[-1][1] > sum(len(question.items) for question in asked)


def test_few_questions_are_answered_in_float32_alone():
    asked, exact, reports = questions(40), questions(40), []
    answer(params("t5"), T5, exact, mesh=one_device())
    decide(
        params("t5"),
        T5,
        asked,
        dtype="bfloat16",
        sample=20,
        mesh=one_device(),
        on_rescoring=reports.append,
    )
    assert [question.answers for question in asked] == [question.answers for question in exact]
    assert not reports


ULP = 2.0**-7  # between two numbers of bfloat16 from 1 to 2


def chain() -> tuple[NetworkConfig, dict]:
    """Attention and MLP silent: the first token of a choice is predicted from the start (row 0),
    the second from the first. Each logit is four times an entry of the output layer."""
    silent = jax.tree.map(np.zeros_like, params("t5"))
    silent["decoder"]["decoder_norm"]["scale"][:] = 1
    embedding = silent["token_embedder"]["embedding"]
    output = silent["decoder"]["logits_dense"]["kernel"]
    # By rounding, the sum of the likelihoods of `ab` falls below that of `cd`; those of `gg` and
    # `hh` become equal; nothing is rounded in `ef` and `ij`.
    entries = {
        "ab": (1 + 0.49 * ULP, 1 + 0.49 * ULP),
        "cd": (1 + 0.51 * ULP, 1.0),
        "gg": (1 + 0.49 * ULP, 1 + 0.49 * ULP),
        "hh": (1.0, 1.0),
        "ef": (0.5, 0.5),
        "ij": (0.75, 0.5),
    }
    embedding[0, 0] = 1_000  # the norm's epsilon is nothing beside it
    for row, (text, (first, second)) in enumerate(entries.items(), 1):
        before, following = tokens(text)
        embedding[before, row] = 1_000
        output[0, before] = first
        output[row, following] = second
    return T5, silent


def pairs(count: int, first: str, second: str, length: int = 5) -> list[Question]:
    made = []
    for number in range(count):
        question = Question(tokens("xyzxyz"[:length]))
        question.choices = {choice: tokens(choice) for choice in (first, second)}
        name = f"{first}{number}"
        question.items = [Item(name, "t", "neutral", name, name, (first, second))]
        made.append(question)
    return made


def chosen(asked: list[Question]) -> set[int]:
    return {question.prediction(question.items[0]).choice for question in asked}


def test_what_bfloat16_alone_decides_otherwise_is_mended():
    network, silent = chain()
    asked, alone, exact = (pairs(12, "ab", "cd") for _ in range(3))
    answer(silent, network, exact, mesh=one_device())
    answer(silent, network, alone, dtype="bfloat16", mesh=one_device())
    assert (chosen(exact), chosen(alone)) == ({0}, {1})
    reports = []
    decide(
        silent,
        network,
        asked,
        dtype="bfloat16",
        sample=2,
        mesh=one_device(),
        on_rescoring=reports.append,
    )
    assert chosen(asked) == {0}
    (report,) = reports
    assert (report.sampled, report.rescored, report.changed) == (2, 10, 12)
    assert "float32 changed 12 decisions" in str(report)


def test_a_difference_beyond_those_of_the_sample_widens_the_bound():
    """The sample has none, so only a tie is scored again, which has some; the bound that follows
    reaches what bfloat16 decides otherwise."""
    network, silent = chain()
    quiet = pairs(300, "ef", "ij")
    # Longer than the others, so that the sample of each length has mostly quiet ones.
    tie, wrong = pairs(1, "gg", "hh", length=6), pairs(1, "ab", "cd", length=6)
    reports = []
    decide(
        silent,
        network,
        [*quiet, *tie, *wrong],
        dtype="bfloat16",
        sample=3,
        mesh=one_device(),
        on_rescoring=reports.append,
    )
    (report,) = reports
    assert (report.sampled, report.rescored, report.changed) == (3, 2, 2)
    assert report.widened == 2
    assert (chosen(tie), chosen(wrong)) == ({0}, {0})


def test_numbers_that_are_not_finite_are_float32s():
    broken = jax.tree.map(np.copy, params("t5"))
    broken["decoder"]["logits_dense"]["kernel"][:, int(tokens("a")[0])] = np.inf
    asked = questions(60)
    decide(broken, T5, asked, dtype="bfloat16", sample=5, mesh=one_device())
    exact = questions(60)
    answer(broken, T5, exact, mesh=one_device())
    for one, other in zip(asked, exact, strict=True):
        found = {c for c, a in one.answers.items() if not np.isfinite(a.log_likelihood)}
        assert found == {c for c, a in other.answers.items() if not np.isfinite(a.log_likelihood)}


def test_auto_is_float32_on_a_processor():
    mesh = make_mesh((-1, 1, 1))
    assert resolved("auto", mesh) == "float32"
    assert resolved("bfloat16", mesh) == "bfloat16"


@pytest.mark.slow
def test_a_network_of_flan_t5s_shape_with_t5s_vocabulary_decides_alike(real_data):
    """Random parameters: margins are as small as they can be."""
    file = real_data / "t5_vocabulary" / "spiece.model"
    if not file.exists():
        pytest.skip(f"T5's vocabulary is not at {file}")
    network = load_config("flan_t5_small", "paper").model.network
    token = np.ones((1, 2), np.int32)
    drawn = jax.jit(Transformer(network).init)(jax.random.key(0), token, token, token)
    on_host = jax.tree.map(np.array, nn.meta.unbox(drawn["params"]))
    items = list(itertools.islice(addition.build_items(0), 120))
    asked = [read_questions(items, Vocabulary(str(file)), 2_048) for _ in range(3)]
    exact, alone, mixed = (list(questions.values()) for questions in asked)
    answer(on_host, network, exact)
    answer(on_host, network, alone, dtype="bfloat16")
    reports = []
    decide(on_host, network, mixed, dtype="bfloat16", sample=20, on_rescoring=reports.append)
    assert decisions(mixed) == decisions(exact) != decisions(alone)
    assert reports[0].sampled + reports[0].rescored < reports[0].items
