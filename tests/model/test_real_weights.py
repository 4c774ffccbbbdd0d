"""Real decoder-only models on real prompts: this project's float32 numbers are those of torch."""

import json

import numpy as np
import pytest

from sycophancy.evaluation.items import Item
from sycophancy.model.checkpoints.formats import load_params, open_checkpoint
from sycophancy.model.decoder import DecoderTransformer
from sycophancy.model.decoder_text import load_text
from sycophancy.scoring.language_model import Decoder
from sycophancy.training.decoder_rows import decoder_rows
from sycophancy.training.loss import loss_sums
from sycophancy.training.step import batch_losses

torch = pytest.importorskip("torch", reason="torch is not installed (extra `hf`)")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

pytestmark = [pytest.mark.extras, pytest.mark.slow, pytest.mark.timeout(1_200)]
SURVEYS = ("nlp_survey", "philpapers2020", "political_typology_quiz")
LETTERS = (" (A)", " (B)")


class Both:
    """A folder as this project reads it, and as transformers does."""

    def __init__(self, folder, prompts):
        self.text = load_text(str(folder), "auto")
        network = open_checkpoint(folder).shape()
        self.ours = Decoder(load_params(folder, network), network, self.text)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
        self.prompts = prompts
        self.contexts = [self._read(prompt) for prompt in prompts]

    def _read(self, prompt):
        """The prompt in the model's template, if it has one, as its text."""
        if not self.tokenizer.chat_template:
            return prompt
        human, prefix = prompt.removeprefix("Human: ").split("\n\nAssistant: ")
        turns = [{"role": "user", "content": human}, {"role": "assistant", "content": prefix}]
        return self.tokenizer.apply_chat_template(
            turns, tokenize=False, continue_final_message=True
        )

    def ids(self, text):
        plain = self.tokenizer.chat_template is not None
        return self.tokenizer(text, add_special_tokens=not plain)["input_ids"]

    def log_likelihoods(self, whole, start):
        """Of each token after the first `start`, each text in a row of its own."""
        with torch.inference_mode():
            logits = self.theirs(input_ids=torch.tensor([whole])).logits[0].double()
        found = logits.log_softmax(-1)[np.arange(start - 1, len(whole) - 1), whole[start:]]
        return float(found.sum())


@pytest.fixture(scope="module", params=["smollm2_135m_instruct", "gemma3_270m"])
def both(request, real_models, real_data):
    prompts = []
    for survey in SURVEYS:
        lines = (real_data / "perez" / f"sycophancy_on_{survey}.jsonl").read_text().splitlines()
        for line in lines[:4]:
            question = json.loads(line)["question"].removesuffix("\n\nAnswer:")
            prompts.append(f"Human: {question.strip()}\n\nAssistant: I believe the best answer is")
    return Both(real_models(request.param), prompts)


def test_losses_of_a_packed_batch(both):
    targets = [LETTERS[n % 2].strip() for n in range(len(both.prompts))]
    rows = both.text.training_rows(both.prompts, targets)
    wholes = [[*row.inputs, *row.targets] for row in rows]
    expected = -sum(
        both.log_likelihoods(whole, len(row.inputs))
        for row, whole in zip(rows, wholes, strict=True)
    )
    tokens = np.full((len(rows), max(map(len, wholes))), -1)
    for row, whole in enumerate(wholes):
        tokens[row, : len(whole)] = whole
    packed = decoder_rows(tokens, np.array([len(row.inputs) for row in rows]), 700, True)
    assert len(packed["decoder_segment_ids"]) < len(rows)
    losses = batch_losses(DecoderTransformer(both.ours.network), both.ours.params, packed)
    found = loss_sums(losses, packed["decoder_loss_weights"].astype(np.float32), 0.0)
    assert found.tokens == sum(len(row.targets) for row in rows)
    print(f"loss: {float(found.loss):.7g}, torch {expected:.7g}")
    np.testing.assert_allclose(found.loss, expected, rtol=1e-4)


def test_log_likelihoods_of_choices(both):
    items = [
        Item(str(n), "survey", "user_view", str(n), prompt, ("(A)", "(B)"))
        for n, prompt in enumerate(both.prompts)
    ]
    found = np.array([found.log_likelihoods for found in both.ours.score(items)])
    expected = np.array(
        [
            [
                both.log_likelihoods(both.ids(context + choice), len(both.ids(context)))
                for choice in LETTERS
            ]
            for context in both.contexts
        ]
    )
    print(f"choices: {np.abs(found / expected - 1).max():.2g}")
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_greedy_continuations(both):
    new = 12
    found = both.ours.generate(both.prompts[::3], max_new_tokens=new)
    for text, context in zip(found, both.contexts[::3], strict=True):
        prompt = torch.tensor([both.ids(context)])
        written = both.theirs.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=new
        )[0, prompt.shape[1] :]
        assert text.strip() == both.tokenizer.decode(written, skip_special_tokens=True).strip()
