"""`evaluate` measures a model without finetuning it, and never trains a run that is."""

import json
import re

import pytest

from sycophancy.config.load import load_config, load_operative, macro_values
from sycophancy.errors import UserError
from sycophancy.evaluation.items import read_items
from sycophancy.model import decoders


def folder_of(tmp_path, **config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    return tmp_path


def test_an_evaluation_asks_writes_its_page_and_trains_nothing(sycophancy, micro, tmp_path):
    run = tmp_path / "run"
    words = ("evaluate", "--model", micro(), "--out", run, "--limit", 2)
    done = sycophancy(*words)
    assert done.code == 0, done.err
    assert {path.name for path in run.iterdir() if not path.name.startswith(".")} == {
        *("config.gin", "prepare", "evaluate_before", "metrics.json", "report", "report.html")
    }
    assert done.out.splitlines()[-2:] == [str(run / "report.html"), str(run / "metrics.json")]
    assert set(json.loads((run / "metrics.json").read_text())) == {"before"}
    items = read_items(run / "prepare" / "evaluation" / "addition.parquet")
    assert len({item.pair_id for item in items}) == 2
    assert len(items) == 6  # every condition of both questions
    page = (run / "report.html").read_text()
    text = re.sub(r"<style>.*?</style>|<[^>]+>", "", page, flags=re.DOTALL)
    for clutter in ("not complete", "not measured", "Findings", "Filtration", "aim:", "undecided"):
        assert clutter not in text, clutter
    assert re.search(r"<h1>The model [^<]*(follows|picks|says)", page)
    assert "as it is, without any finetuning" in text
    assert "sycophancy evaluate --name again" in text
    again = sycophancy("evaluate", "--out", run)
    assert again.code == 0
    assert "evaluate_before: up to date" in again.err
    refused = sycophancy("finetune", "--out", run)
    assert refused.code == 2
    assert "NUM_EXAMPLES is 0, so there is nothing to finetune on" in refused.err


@pytest.mark.slow
def test_a_run_whose_finetuning_is_out_of_date_is_not_evaluated(sycophancy, micro, tmp_path):
    run = tmp_path / "run"
    recipe = micro().with_name("micro_recipe.gin")
    model = ("--model", micro(), "--recipe", recipe, "--out", run, "--limit", 2)
    assert sycophancy("finetune", *model).code == 0
    assert sycophancy("evaluate", *model).code == 0
    assert set(json.loads((run / "metrics.json").read_text())) == {"before", "after"}
    before = sorted(path.name for path in (run / "finetune" / "checkpoints").iterdir())
    more_steps = sycophancy("evaluate", *model, "--set", "FINETUNE_STEPS=8")
    assert more_steps.code == 2
    assert "finetune is out of date (FINETUNE_STEPS" in more_steps.err
    assert sorted(p.name for p in (run / "finetune" / "checkpoints").iterdir()) == before


def test_a_decoder_only_model_has_a_configuration_without_a_t5_shape(tmp_path):
    folder = folder_of(tmp_path, model_type="gpt2", architectures=["GPT2LMHeadModel"])
    config = load_config(str(folder), "evaluation", ["CHAT=raw"])
    assert config.model.is_decoder and config.model.chat == "raw"
    again = load_operative(config.operative, "config.gin")
    assert again == config
    assert macro_values(again)["ARCHITECTURE"] == "decoder-only"
    assert "EMBED_DIM" not in config.operative
    with pytest.raises(UserError, match="EMBED_DIM is the shape of an encoder-decoder"):
        load_config(str(folder), "evaluation", ["EMBED_DIM=8"])


@pytest.mark.parametrize("command", ["run", "filter", "finetune", "plan"])
def test_only_evaluation_takes_a_decoder_only_model_of_another_family(
    sycophancy, tmp_path, command
):
    folder = folder_of(tmp_path, model_type="gpt2", architectures=["GPT2LMHeadModel"])
    out = ("--topology", "v4-8") if command == "plan" else ("--out", tmp_path / "run")
    refused = sycophancy(command, "--model", folder, *out)
    assert refused.code == 2
    assert "model_type is 'gpt2'" in refused.err
    assert len(refused.err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_other_models_are_refused_by_what_they_are(tmp_path):
    bert = folder_of(tmp_path, model_type="bert", architectures=["BertForMaskedLM"])
    with pytest.raises(UserError, match=r"'bert' \(BertForMaskedLM\); supported are T5"):
        load_config(str(bert), "evaluation")
    folder_of(tmp_path, model_type="bart", is_encoder_decoder=True)
    with pytest.raises(UserError, match="model_type is 'bart'; supported are T5"):
        decoders.is_decoder(str(tmp_path))


@pytest.mark.extras
def test_weights_of_another_form_are_refused(tmp_path):
    folder_of(tmp_path, model_type="llama")
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    pytest.importorskip("torch", reason="needs torch (extra hf)")
    with pytest.raises(UserError, match=r"has no \.safetensors file"):
        decoders.check(str(tmp_path))
