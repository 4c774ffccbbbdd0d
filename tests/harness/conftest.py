"""One small random T5 with T5's real vocabulary, as this project and as the harness ask it."""

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import hf_folders
import pytest

from sycophancy.config.schema import NetworkConfig
from sycophancy.model.checkpoints import huggingface
from sycophancy.model.vocabulary import Vocabulary

NETWORK = NetworkConfig(
    vocab_size=32_128,
    emb_dim=32,
    num_heads=4,
    num_encoder_layers=2,
    num_decoder_layers=2,
    head_dim=8,
    mlp_dim=48,
)


@dataclasses.dataclass(frozen=True)
class Both:
    """The same weights twice.

    Attributes:
      ours: this project's `HarnessModel`.
      theirs: the harness's own class, which asks `transformers`.
      folder: the Hugging Face folder of the weights.
    """

    ours: Any
    theirs: Any
    folder: Path


@pytest.fixture(scope="session")
def both(real_data, tmp_path_factory) -> Both:
    pytest.importorskip("lm_eval", reason="lm_eval is not installed (extra `harness`)")
    pytest.importorskip("torch", reason="torch is not installed (extra `hf`)")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    with warnings.catch_warnings():  # torch and its friends warn about their own insides
        warnings.simplefilter("ignore")
        harness_class = pytest.importorskip(
            "lm_eval.models.huggingface", reason="accelerate is not installed"
        ).HFLM
    from sycophancy.harness.adapter import HarnessModel
    from sycophancy.scoring.language_model import EncoderDecoder

    vocabulary = str(real_data / "t5_vocabulary" / "spiece.model")
    folder = tmp_path_factory.mktemp("harness") / "hf"
    params = hf_folders.draw(NETWORK)
    huggingface.save(folder, params, NETWORK, vocabulary)
    model = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()
    # The harness ties weights again. In transformers 5, that would replace the output layer of
    # every T5 1.1 by its embedding, whatever config.json says.
    model.config.tie_word_embeddings = False
    theirs = harness_class(
        pretrained=model,
        tokenizer=transformers.AutoTokenizer.from_pretrained(folder),
        backend="seq2seq",
        max_length=2_048,
        batch_size=8,
    )
    ours = HarnessModel(EncoderDecoder(params, NETWORK, Vocabulary(vocabulary)))
    return Both(ours, theirs, folder)
