"""Decoder-only networks: scores are those of rows by themselves, and so are texts."""

import decoder_networks
import jax
import numpy as np
import pytest

from sycophancy.model.sharding import make_mesh
from sycophancy.scoring.answers import answer
from sycophancy.scoring.batching import Question
from sycophancy.scoring.generate import write

ENDS = (1, 7)


@pytest.fixture(params=decoder_networks.KINDS, scope="module")
def network(request):
    return decoder_networks.KINDS[request.param]


@pytest.fixture(scope="module")
def params(network):
    return decoder_networks.draw(network)


def questions() -> list[Question]:
    """Prompts and choices of unequal lengths; token 0 is a token like others."""
    rng = np.random.default_rng(3)

    def tokens(length: int) -> np.ndarray:
        return rng.integers(0, 50, length).astype(np.int32)

    sizes = ((9, (2, 2)), (3, (1, 4, 2)), (17, (3,)), (1, (5, 1)), (9, (2, 2)))
    return [
        Question(tokens(prompt), {str(n): tokens(length) for n, length in enumerate(choices)})
        for prompt, choices in sizes
    ]


@pytest.mark.parametrize(
    "mesh", [(-1, 1, 1), (1, 4, 2), pytest.param((2, 2, 2), marks=pytest.mark.slow)]
)
def test_choices_behind_one_prompt_score_as_each_by_itself(network, params, mesh):
    asked = questions()
    answer(params_on_host(params), network, asked, mesh=make_mesh(mesh), batch_tokens=24)
    for question in asked:
        for choice, tokens in question.choices.items():
            row = np.concatenate([question.prompt, tokens])
            logits = decoder_networks.logits_of(network, params, row)
            before = logits[len(question.prompt) - 1 : -1]
            expected = jax.nn.log_softmax(before)[np.arange(len(tokens)), tokens].sum()
            found, greedy, _ = question.answers[choice]
            np.testing.assert_allclose(found, expected, rtol=1e-4)
            assert greedy == bool((before.argmax(-1) == tokens).all())


def params_on_host(params):
    return jax.tree.map(np.asarray, params)


@pytest.mark.parametrize("mesh", [(-1, 1, 1), (1, 4, 2)])
def test_texts_are_those_of_a_full_forward_pass_for_each_token(network, params, mesh):
    tokens = {str(n): question.prompt.tolist() for n, question in enumerate(questions())}
    texts = write(
        params_on_host(params),
        network,
        list(tokens),
        tokens,
        lambda ids: " ".join(map(str, ids)),
        ENDS,
        max_new_tokens=6,
        mesh=make_mesh(mesh),
    )
    for name, text in zip(tokens, texts, strict=True):
        row = list(tokens[name])
        for _ in range(6):
            following = int(decoder_networks.logits_of(network, params, row)[-1].argmax())
            if following in ENDS:
                break
            row.append(following)
        assert text == " ".join(map(str, row[len(tokens[name]) :]))
