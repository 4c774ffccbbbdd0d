"""The adapter gives the answers that the harness gets from the same weights in transformers."""

import decoder_runs
import numpy as np
import pyarrow.parquet as pq
import pytest

from sycophancy.config.load import load_config
from sycophancy.errors import UserError
from sycophancy.evaluation.items import Prediction

pytest.importorskip("lm_eval", reason="lm_eval is not installed (extra `harness`)")
from lm_eval.api.instance import Instance  # after the skip

from sycophancy.harness.adapter import HarnessModel
from sycophancy.stages.scores import load_language_model


def ask(*pairs: tuple[str, str]) -> list[Instance]:
    return [Instance("loglikelihood", {}, pair, 0, ("a_task", 0, 1)) for pair in pairs]


def write(context: str, **arguments: object) -> Instance:
    return Instance("generate_until", {}, (context, arguments), 0, ("a_task", 0, 1))


class Recorder:
    """A language model that notes what it is asked; its tokens are words."""

    def __init__(self) -> None:
        self.items: list = []
        self.prompts: list[str] = []
        self.asked: list[dict] = []

    keeps_line_breaks = True

    def count_tokens(self, texts):
        return np.array([len(text.split()) + 1 for text in texts], int)

    def score(self, items, progress=None, *, continuations=False):
        assert continuations
        self.items += items
        return [
            Prediction(
                item.item_id,
                tuple(-float(len(choice)) for choice in item.choices),
                tuple(choice == " yes" for choice in item.choices),
                (1,) * len(item.choices),
            )
            for item in items
        ]

    def room(self, answer_tokens):
        return 2_048

    def generate(self, prompts, *, max_new_tokens, stop=(), progress=None, continuations=False):
        assert continuations
        self.prompts += prompts
        self.asked.append({"max_new_tokens": max_new_tokens, "stop": tuple(stop)})
        return [f"{len(prompt.split())} words" for prompt in prompts]


@pytest.mark.extras
def test_log_likelihoods_equal_the_harness_on_real_rows(both, real_data):
    """Contexts of several lengths, one beyond the limit, and one that is empty."""
    rows = pq.read_table(real_data / "hub" / "cais__mmlu" / "all" / "test.parquet").to_pylist()
    pairs = [
        (f"{row['question']}\nAnswer:{space}", choice)
        for row, space in zip(rows[:4], ("", " ", "\n", "  "), strict=True)
        for choice in (*row["choices"], " A", " B")
    ]
    pairs += [("many words " * 1_100, "the end"), ("", "the end")]
    expected = both.theirs.loglikelihood(ask(*pairs), disable_tqdm=True)
    found = both.ours.loglikelihood(ask(*pairs))
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    np.testing.assert_allclose(
        [value for value, _ in found], [value for value, _ in expected], atol=1e-3
    )
    assert both.ours.notes == [
        "1 of 6 prompts are longer than 2,048 tokens and lost their beginnings"
    ]


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
def test_a_model_with_a_chat_template_reads_a_task_s_prompts_as_they_are(tmp_path):
    """Likelihoods and texts are those of the harness without its --apply_chat_template."""
    huggingface = pytest.importorskip("lm_eval.models.huggingface", reason="no accelerate")
    folder = decoder_runs.make_model(tmp_path / "tiny")
    config = load_config(str(folder), "paper")
    ours = HarnessModel(load_language_model(config, config.model))
    theirs = huggingface.HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=1)
    limits = {"until": ["zz"], "max_gen_toks": 6, "do_sample": False}
    contexts = ["Question: Is it?\nAnswer:", "Human: Do you agree?\n\nAssistant: I"]
    texts = [
        model.generate_until([write(c, **limits) for c in contexts]) for model in (ours, theirs)
    ]
    assert texts[0] == texts[1]
    requests = ask(*((context, choice) for context in contexts for choice in (" yes", " no way")))
    found, expected = (model.loglikelihood(requests) for model in (ours, theirs))
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    np.testing.assert_allclose([x for x, _ in found], [x for x, _ in expected], rtol=1e-4)


def test_greedy_is_reported_and_each_context_is_asked_once():
    model = Recorder()
    requests = ask(("Is it?", " yes"), ("Is it not?", " no"), ("Is it?", " no"), ("Is it?", " yes"))
    assert HarnessModel(model).loglikelihood(requests) == [
        (-4.0, True),
        (-3.0, False),
        (-3.0, False),
        (-4.0, True),
    ]
    assert [(item.inputs, item.choices) for item in model.items] == [
        ("Is it?", (" yes", " no")),
        ("Is it not?", (" no",)),
    ]


def test_generation_groups_requests_by_where_they_stop():
    model = Recorder()
    requests = [
        write("one", until=["Q", ""], max_gen_toks=9),
        write("two words", until="\n"),
        write("three more words", until=["Q"], max_gen_toks=9, do_sample=False, temperature=0.0),
    ]
    assert HarnessModel(model).generate_until(requests) == ["1 words", "2 words", "3 words"]
    assert model.asked == [
        {"max_new_tokens": 9, "stop": ("Q",)},
        {"max_new_tokens": 256, "stop": ("\n",)},
    ]


def test_stop_strings_that_no_text_can_have_are_left_out_and_noted():
    """The stop strings of BIG-Bench Hard; T5's vocabulary has no line breaks."""
    model = Recorder()
    model.keeps_line_breaks = False
    harness = HarnessModel(model)
    harness.generate_until([write("one", until=["Q", "\n\n"]), write("two", until=["Q", "\n"])])
    assert [asked["stop"] for asked in model.asked] == [("Q",)]
    assert harness.notes == [
        "texts do not end at line breaks, because this model's vocabulary reads them as spaces"
    ]


def test_a_prompt_that_is_too_long_loses_its_beginning_and_is_counted():
    model = Recorder()
    harness = HarnessModel(model)
    long = " ".join(map(str, range(3_000)))
    assert harness.generate_until([write(long), write("short")]) == ["2047 words", "1 words"]
    assert model.prompts[0] == " ".join(map(str, range(3_000 - 2_047, 3_000)))
    assert harness.notes == [
        "1 of 2 prompts are longer than 2,048 tokens and lost their beginnings"
    ]


def test_samples_and_likelihoods_of_whole_texts_are_refused_in_one_line():
    harness = HarnessModel(Recorder())
    with pytest.raises(UserError, match=r"a_task asks for samples .*temperature 0\.7"):
        harness.generate_until([write("x", do_sample=True, temperature=0.7)])
    with pytest.raises(UserError, match=r"a_task asks for the likelihood of whole texts"):
        harness.loglikelihood_rolling(
            [Instance("loglikelihood_rolling", {}, ("x",), 0, ("a_task", 0, 1))]
        )


def test_arguments_without_effect_are_noted():
    harness = HarnessModel(Recorder())
    harness.generate_until([write("x", top_k=3, until=[])])
    assert harness.notes == ["a_task: top_k have no effect here"]


def test_each_of_several_processes_is_the_only_one_to_the_harness():
    harness = HarnessModel(Recorder())
    assert (harness.rank, harness.world_size) == (0, 1)
