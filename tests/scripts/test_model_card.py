"""The model card of a miniature's checkpoint."""

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from model_card import ABILITIES, INSTRUCTED, PRETRAINED, card

from sycophancy.config.load import load_config


def test_a_card_has_every_ability_with_its_interval_and_the_command():
    """The interval of 1,900 in 2,000 is that of statsmodels' `proportion_confint`, wilson."""
    run = SimpleNamespace(
        args=argparse.Namespace(model="mini_base", seed=3),
        config=load_config("mini_base", "paper").model.network,
        params={"a": np.zeros((30, 40)), "b": np.zeros(5)},
        progress={"steps": 12_345, "devices": ["cpu", "TPU v4"]},
        measure=lambda family, count: 0.95 if family == "sums" else 1.0,
    )
    lines = card(run, "mini_base").splitlines()
    assert "A T5 1.1 of 1,205 parameters" in lines[2]
    assert INSTRUCTED in lines
    assert PRETRAINED not in lines
    assert "Made by, in 12,345 steps on cpu and TPU v4:" in lines
    assert any(line.endswith("--model mini_base --seed 3 --out .cache/mini_base") for line in lines)
    shares = [line for line in lines if line.endswith(") |")]
    assert shares[0] == f"| {ABILITIES[0][1]} | 95.0% (94.0% to 95.9%) |"
    assert len(shares) == len(ABILITIES)
    assert PRETRAINED in card(run, "mini_base_pretrained")
