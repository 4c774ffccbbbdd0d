"""What is refused before a stage begins."""

import dataclasses

import pytest

from sycophancy.config.load import load_config
from sycophancy.engine.run_folder import RunFolder
from sycophancy.errors import UserError
from sycophancy.stages import work

CONFIG = load_config("mini_base", "quick")


@pytest.mark.parametrize("name", ["runs [seed 0]", "a*b", "what?"])
def test_a_folder_that_t5x_would_take_for_a_pattern_is_refused(tmp_path, name):
    run = RunFolder(tmp_path / name)
    work.check_finetuning(CONFIG, run)
    with pytest.raises(UserError, match="name another folder"):
        work.check_finetuning(dataclasses.replace(CONFIG, trainer="t5x"), run)


def test_an_activation_that_t5x_does_not_know_is_refused(tmp_path):
    network = dataclasses.replace(CONFIG.model.network, mlp_activations=("gelu_exact", "linear"))
    model = dataclasses.replace(CONFIG.model, network=network)
    config = dataclasses.replace(CONFIG, model=model, trainer="t5x")
    with pytest.raises(UserError, match="T5X has no gelu_exact"):
        work.check_finetuning(config, RunFolder(tmp_path))


def test_a_path_that_is_no_checkpoint_is_refused_before_it_is_read():
    """A digest of `/` would read the whole disk."""
    model = dataclasses.replace(CONFIG.model, checkpoint="/")
    with pytest.raises(UserError, match="/ is not a checkpoint"):
        work.model_files(model)


def test_a_vocabulary_larger_than_the_network_is_refused():
    network = dataclasses.replace(CONFIG.model.network, vocab_size=1000)
    with pytest.raises(UserError, match="pieces, the network 1,000 rows"):
        work.check_model(dataclasses.replace(CONFIG.model, network=network))
