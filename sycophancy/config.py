"""What a run is told: frozen dataclasses, filled from gin macros at the edge."""

from __future__ import annotations

import dataclasses
from typing import Literal

ClaimMode = Literal["paper", "balanced"]
Sampling = Literal["uniform", "balanced"]


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Shape of a T5 1.1 encoder-decoder; gin macros carry the same names as T5X's."""

    vocab_size: int
    emb_dim: int
    num_heads: int
    num_encoder_layers: int
    num_decoder_layers: int
    head_dim: int
    mlp_dim: int
    mlp_activations: tuple[str, ...] = ("gelu", "linear")
    logits_via_embedding: bool = False
    dropout_rate: float = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"  # activations; parameters are float32
    remat_policy: Literal["none", "dots", "full"] = "none"


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A checkpoint to start from: its name, its shape and where its files are."""

    name: str
    network: NetworkConfig
    checkpoint: str
    vocabulary: str
    pretrained_step: int = 0


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What `prepare` reads and how many rows it writes."""

    origin: Literal["hub", "mirror", "miniature"] = "miniature"
    mirror: str | None = None  # folder in the hub's layout, for origin "mirror"
    surveys: str | None = None  # folder of the three survey jsonl files; None: by origin
    instructions: str | None = None  # jsonl or parquet file; None: by origin
    data_sets: tuple[str, ...] = ()  # names of sources.SOURCES; empty means all 17
    num_examples: int = 100_000
    num_instructions: int = 20_000
    num_validation: int = 1_000  # rows of intervention and of instruction validation, each
    num_survey_items: int = 1_000  # per survey
    claim_mode: ClaimMode = "paper"
    sampling: Sampling = "uniform"
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The finetuning recipe."""

    finetune_steps: int = 1_000
    batch_size: int = 32  # packed rows
    input_length: int = 512  # TASK_FEATURE_LENGTHS["inputs"], tokens
    target_length: int = 64  # TASK_FEATURE_LENGTHS["targets"], tokens
    packing: bool = True
    learning_rate: float = 5e-4
    dropout_rate: float = 0.05
    z_loss: float = 1e-4
    microbatches: int = 1
    mixture_or_task_name: str = "sycophancy_mix"
    mixture_ratio: tuple[float, float] = (5.0, 1.0)  # intervention : instruction tuning
    save_period: int = 250
    keep_checkpoints: int | None = 1
    log_period: int = 20
    mesh: tuple[int, int, int] = (-1, 1, 1)  # data, fsdp, model; -1: all remaining devices
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Config:
    """One run, whole."""

    model: ModelConfig
    data: DataConfig
    training: TrainingConfig
    filtration: bool
    recipe: str
    operative: str  # the gin macros of the run, as text that gin parses back to the same run
