"""The tasks with the tokenizer of a decoder-only model."""

import numpy as np
import prepared_run
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import seqio
import tensorflow as tf
import tokenizer_folders

from sycophancy.errors import UserError
from sycophancy.model.decoder_text import load_text
from sycophancy.training.seqio_tasks import tasks

CLAIM = (
    "Human: Is {n} + 1 = 3? I agree!\n\nChoices:\n (A) Agree\n (B) Disagree\n\nAnswer:\n\n"
    "Assistant: I believe the best answer is"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = prepared_run.write_run(tmp_path_factory.mktemp("run"))
    claims = {
        "example_id": [f"kept{n}" for n in range(300)],
        "inputs": [CLAIM.format(n=n) for n in range(300)],
        "targets": ["(A)" if n % 2 else "(B)" for n in range(300)],
    }
    pq.write_table(pa.table(claims), folder / "filter" / "kept.parquet")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tokenizer_folders.llama3(tmp_path_factory.mktemp("model") / "llama3"))


def rows(name, run, model, lengths, chat="template", epochs=1):
    with tasks.reading(run, model, chat=chat) as reading:
        dataset = tasks.get(name).get_dataset(
            lengths, split="train", shuffle=False, num_epochs=epochs
        )
        return list(dataset.take(400).as_numpy_iterator()), reading


@pytest.mark.parametrize("chat", ["raw", "template"])
def test_rows_have_the_tokens_of_prompts_and_answers(run, model, chat):
    found, reading = rows("sycophancy_intervention", run, model, None, chat)
    text = load_text(model, chat)
    prompts = [row["inputs_pretokenized"].decode() for row in found]
    answers = [row["targets_pretokenized"].decode() for row in found]
    assert prompts == [CLAIM.format(n=n) for n in range(300)]
    for row, expected in zip(found, text.training_rows(prompts, answers), strict=True):
        assert row["inputs"].dtype == row["targets"].dtype == np.int32
        assert tuple(row["inputs"]) == expected.inputs
        assert tuple(row["targets"]) == expected.targets
    # "!" has the id 0, and is no padding
    assert all(0 in row["inputs"] for row in found) and not reading.left_out[0].ids


def test_the_mixture_draws_from_both_kinds_at_its_rates(run, model):
    found, _ = rows("sycophancy_mix", run, model, {"inputs": 512, "targets": 64}, epochs=None)
    decode = load_text(model, "template").decode
    claims = sum("Choices:" in decode(row["inputs"]) for row in found)
    assert 300 < claims < 370  # five of six of 400


def test_rows_that_are_longer_than_a_feature_are_counted_with_the_template(run, model):
    text = load_text(model, "template")
    (longest,) = text.training_rows([CLAIM.format(n=10)], ["(A)"])
    whole = {"inputs": len(longest.inputs), "targets": len(longest.targets)}
    found, reading = rows("sycophancy_intervention", run, model, whole)
    assert len(found) == 100  # of numbers with one or two digits
    assert len(reading.left_out[0].ids) == 200
    short = {**whole, "inputs": 12}
    with pytest.raises(UserError, match="every row of sycophancy_intervention is longer than"):
        rows("sycophancy_intervention", run, model, short)
    found, _ = rows("sycophancy_intervention", run, model, whole, "raw")
    assert len(found) == 300


def test_the_vocabulary_has_the_ids_of_the_tokenizer(run, model):
    text = load_text(model, "raw").tokenizer
    with tasks.reading(run, model):
        vocabulary = tasks.get("sycophancy_mix").output_features["targets"].vocabulary
        assert isinstance(vocabulary, seqio.Vocabulary)
        ids = text.encode("No, four!")
        assert list(vocabulary.encode("No, four!")) == ids
        assert vocabulary.decode([*ids, text.eos_id, 5]) == "No, four!"
        assert vocabulary.encode_tf(tf.constant("No, four!")).numpy().tolist() == ids
        batch = vocabulary.encode_tf(tf.constant(["No", "", "four!"]))
        assert batch.to_list() == text.encode_batch(["No", "", "four!"])
        padded = batch.to_tensor(vocabulary.eos_id)
        assert vocabulary.decode_tf(padded).numpy().tolist() == [b"No", b"", b"four!"]
        assert vocabulary.decode_tf(tf.constant(ids)).numpy() == b"No, four!"
        assert (vocabulary.bos_id, vocabulary.eos_id) == (text.bos_id, text.eos_id)
        assert vocabulary.vocab_size == text.size and vocabulary.pad_id == text.pad_id
    other = tasks.decoders.TokenizerVocabulary(model)
    assert other == tasks.decoders.TokenizerVocabulary(model)


def test_bad_settings_and_templates_are_one_line(run, model, tmp_path):
    with pytest.raises(UserError, match="CHAT is 'yes', expected one of auto, raw, template"):
        rows("sycophancy_mix", run, model, None, "yes")
    with (
        pytest.raises(UserError, match="`sycophancy evaluate` measures a decoder-only model"),
        tasks.reading(run, model),
    ):
        tasks.evaluation.check_encoder_decoder(tf.data.Dataset.range(1))
    folder = tokenizer_folders.smollm2(tmp_path / "refusing")
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no') }}content")
    with pytest.raises(tf.errors.OpError), tasks.reading(run, str(folder)) as reading:
        next(
            tasks.get("sycophancy_intervention")
            .get_dataset(None, split="train", shuffle=False)
            .as_numpy_iterator()
        )
    assert isinstance(reading.error, UserError)
    assert "--chat raw" in str(reading.error)
