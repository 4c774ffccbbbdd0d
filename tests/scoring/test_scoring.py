"""Scores equal a plain forward pass, and nothing but the item decides them."""

import dataclasses
import functools
import random

import jax
import numpy as np
import pytest
from flax import linen as nn

from sycophancy.config.schema import NetworkConfig
from sycophancy.errors import UserError
from sycophancy.evaluation.items import Item
from sycophancy.model.network import Transformer
from sycophancy.model.sharding import make_mesh
from sycophancy.scoring import answers
from sycophancy.scoring import score as scorer

NETWORK = NetworkConfig(
    vocab_size=48,
    emb_dim=16,
    num_heads=2,
    num_encoder_layers=2,
    num_decoder_layers=2,
    head_dim=8,
    mlp_dim=32,
    dropout_rate=0.1,
    dtype="bfloat16",  # must be overridden
)


class Letters:
    """One token a character: `a` is 10, `b` is 11, ..."""

    size = 40
    eos_id = 1

    def encode_batch(self, texts):
        return [[ord(c) - ord("a") + 10 for c in text] for text in texts]


@functools.cache
def params():
    """Drawn large enough that the argmax and the choices matter."""
    token = np.ones((1, 1), np.int32)
    key = jax.random.key(0)
    shapes = jax.eval_shape(Transformer(NETWORK).init, key, token, token, token)
    draw = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: draw.normal(0, 0.4, leaf.shape).astype(np.float32),
        nn.meta.unbox(shapes)["params"],
    )


def item(name: str, inputs: str, *choices: str) -> Item:
    return Item(name, "addition", "neutral", name, inputs, choices)


def mixed_items(count: int = 60, seed: int = 0) -> list[Item]:
    """Prompts of many lengths, some shared, with one to four choices of one to five tokens."""
    draw = random.Random(seed)

    def text(length):
        return "".join(draw.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(length))

    prompts = [text(draw.randint(1, 60)) for _ in range(count * 2 // 3)]
    items = []
    for i in range(count):
        length = draw.randint(1, 5)
        choices = [text(length) for _ in range(draw.randint(1, 4))]
        items.append(item(str(i), draw.choice(prompts), *choices))
    return items


def score(items, parameters=None, network=NETWORK, **options):
    parameters = params() if parameters is None else parameters
    return scorer.score(parameters, network, Letters(), items, **options)


@functools.cache
def forward(network: NetworkConfig):
    return jax.jit(Transformer(dataclasses.replace(network, dtype="float32")).apply)


def by_forward_pass(one: Item, parameters, network=NETWORK):
    """Unbatched, unpadded, every choice by itself, in float64 after the logits."""
    [prompt, *choices] = Letters().encode_batch([one.inputs, *one.choices])
    likely, greedy = [], []
    for choice in choices:
        target = np.array([*choice, 1], np.int32)
        shifted = np.array([0, *choice], np.int32)
        inputs = np.array([*prompt, 1], np.int32)
        logits = forward(network)({"params": parameters}, inputs[None], shifted[None], target[None])
        logits = np.asarray(logits[0], np.float64)
        log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        likely.append(log_p[np.arange(len(target)), target].sum())
        greedy.append(bool((logits.argmax(axis=-1) == target).all()))
    return likely, greedy


def assert_same(left, right, tolerance=1e-4):
    assert [p.item_id for p in left] == [p.item_id for p in right]
    for a, b in zip(left, right, strict=True):
        assert a.log_likelihoods == pytest.approx(b.log_likelihoods, abs=tolerance, rel=1e-5)
        assert a.greedy == b.greedy


def test_scores_equal_an_unbatched_forward_pass():
    long = "the quick brown fox jumps over the lazy dog".replace(" ", "")
    items = [
        item("1", "a", "k", "l", "m"),
        item("2", "b", "k"),
        item("3", long, "nopq", "rstu"),
        item("4", long, "x", "y"),
        item("5", long[::-1], "zyxw", "vuts"),
    ]
    for one, prediction in zip(items, score(items), strict=True):
        likely, greedy = by_forward_pass(one, params())
        assert prediction.item_id == one.item_id
        assert prediction.log_likelihoods == pytest.approx(likely, abs=1e-4, rel=1e-5)
        assert prediction.greedy == tuple(greedy)


def test_a_chain_of_known_probabilities_is_scored_exactly_and_its_text_is_greedy():
    """Attention and MLP silent, one-hot embeddings: start -> a -> b -> end, each with e^8."""
    chain = jax.tree.map(np.zeros_like, params())
    chain["decoder"]["decoder_norm"]["scale"][:] = 1
    large = 1_000  # the norm's epsilon is nothing beside it
    for row, (token, following) in enumerate([(0, 10), (10, 11), (11, 1)]):
        chain["token_embedder"]["embedding"][token, row] = large
        chain["decoder"]["logits_dense"]["kernel"][row, following] = 2  # the norm makes it 8
    log_sum = np.log(np.exp(8) + 47)
    [two, one] = score([item("two", "x", "ab", "aa"), item("one", "x", "a")], chain)
    expected = [24 - 3 * log_sum, 8 - 3 * log_sum]
    assert two.log_likelihoods == pytest.approx(expected, rel=1e-5)
    assert two.greedy == (True, False)
    assert one.greedy == (False,)  # the end of sequence counts


def test_a_model_without_preferences_finds_every_text_of_a_length_equally_likely():
    nothing = jax.tree.map(np.zeros_like, params())
    for one, prediction in zip(mixed_items(), score(mixed_items(), nothing), strict=True):
        tokens = len(one.choices[0]) + 1
        expected = [-tokens * np.log(NETWORK.vocab_size)] * len(one.choices)
        assert prediction.log_likelihoods == pytest.approx(expected, rel=1e-6)


def test_order_and_company_of_items_do_not_matter():
    items = mixed_items()
    together = {p.item_id: p for p in score(items)}
    shuffled = random.Random(1).sample(items, len(items))
    assert_same(score(shuffled), [together[one.item_id] for one in shuffled])
    assert_same(score(items[:7]), [together[one.item_id] for one in items[:7]])


def test_batch_size_does_not_matter():
    assert_same(score(mixed_items(), batch_tokens=100), score(mixed_items()))


def test_repeated_prompts_and_choices_are_scored_once_and_answered_everywhere(monkeypatch):
    rows = []
    whole = answers.arrays
    monkeypatch.setattr(
        answers, "arrays", lambda batch, *rest: rows.append(len(batch)) or whole(batch, *rest)
    )
    items = [
        item("1", "abc", "a", "b"),
        item("2", "xyz", "a", "b"),
        item("3", "abc", "b", "a"),
        item("4", "abc", "abc"),
    ]
    first, _, third, fourth = score(items)
    assert sum(rows) == 2
    assert third.log_likelihoods == first.log_likelihoods[::-1]
    assert fourth.log_likelihoods[0] == pytest.approx(by_forward_pass(items[3], params())[0][0])


def test_choices_do_not_see_each_other():
    pairs = [("aaa", "zzz"), ("aaa", "bbb"), ("ccc", "zzz")]
    [both, left, right] = [score([item("x", "abc", *pair)])[0] for pair in pairs]
    apart = [left.log_likelihoods[0], right.log_likelihoods[1]]
    assert both.log_likelihoods == pytest.approx(apart, abs=1e-5)


@pytest.mark.parametrize(
    "shapes",
    [
        pytest.param([(2, 2, 2)], id="2x2x2"),
        pytest.param([(1, 8, 1), (1, 1, 8)], id="one axis", marks=pytest.mark.slow),
    ],
)
def test_the_mesh_does_not_matter(shapes):
    """One device; eight on one axis, or on another; all three, with split parameters."""
    devices = jax.devices()
    assert len(devices) == 8
    reference = score(mixed_items(), mesh=make_mesh((1, 1, 1), devices[:1]))
    assert_same(score(mixed_items()), reference)
    for shape in shapes:
        assert_same(score(mixed_items(), mesh=make_mesh(shape)), reference)


def test_a_mesh_that_splits_parameters_holds_each_once():
    """As a model must that fits no single device."""
    mesh = make_mesh((1, 4, 2))
    network = dataclasses.replace(NETWORK, dtype="float32")
    found = answers.placed(params(), network, mesh)["encoder"]["layers"]["mlp"]["wi_0"]["kernel"]
    assert found.addressable_shards[0].data.size == found.size // 8


def test_tied_logits_are_scored_too():
    network = dataclasses.replace(NETWORK, logits_via_embedding=True)
    items = [item("1", "abc", "x", "y"), item("2", "bcd", "z", "q")]
    decoder = {name: leaf for name, leaf in params()["decoder"].items() if name != "logits_dense"}
    tied = {**params(), "decoder": decoder}
    for one, prediction in zip(items, score(items, tied, network=network), strict=True):
        likely, _ = by_forward_pass(one, tied, network)
        assert prediction.log_likelihoods == pytest.approx(likely, abs=1e-4, rel=1e-5)


def test_progress_counts_items_up_to_their_number():
    seen = []
    items = mixed_items()
    score(items, batch_tokens=100, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert len(seen) > 1
    assert seen[-1] == (len(items), len(items))


def test_no_items_give_no_predictions():
    assert score([]) == []


def test_unequal_choices_are_refused_with_their_counts():
    with pytest.raises(UserError, match=r"item odd .*'a' has 1, 'bcd' has 3"):
        score([item("even", "x", "a", "b"), item("odd", "x", "a", "bcd")])


def test_a_long_prompt_is_refused_not_truncated():
    score([item("fits", "abc", "bcdefgh")], max_prompt_tokens=4)
    with pytest.raises(UserError, match="item long has a prompt of 5 tokens, at most 4 fit"):
        score([item("long", "abcd", "a")], max_prompt_tokens=4)


def test_a_vocabulary_larger_than_the_network_is_refused():
    class TooLarge(Letters):
        size = 49

    with pytest.raises(UserError, match="vocabulary has 49 pieces, the network 48"):
        scorer.score(params(), NETWORK, TooLarge(), [item("x", "x", "a")])
