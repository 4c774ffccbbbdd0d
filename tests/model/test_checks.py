"""Checks of a model before a stage begins."""

import dataclasses

import pytest

from sycophancy.config.load import load_config
from sycophancy.errors import UserError
from sycophancy.stages import checks, models

CONFIG = load_config("mini_base", "quick")


def test_a_path_that_is_no_checkpoint_is_refused_before_it_is_read():
    """A digest of `/` would read the whole disk."""
    model = dataclasses.replace(CONFIG.model, checkpoint="/")
    with pytest.raises(UserError, match="/ is not a checkpoint"):
        models.model_files(model)


def test_a_vocabulary_larger_than_the_network_is_refused(tmp_path):
    network = dataclasses.replace(CONFIG.model.network, vocab_size=1000)
    config = dataclasses.replace(
        CONFIG, model=dataclasses.replace(CONFIG.model, encoder_decoder=network)
    )
    with pytest.raises(UserError, match="pieces, the network 1,000 rows"):
        checks.check_model(config, None)
