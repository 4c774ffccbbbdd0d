"""What a run is told: frozen dataclasses, filled from gin macros at the edge."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from sycophancy.config.bounds import (
    Between,
    DataSets,
    Entries,
    MeshSizes,
    Name,
    Place,
    Rates,
    Text,
)
from sycophancy.model.mesh import AUTO

ClaimMode = Literal["paper", "balanced"]
Sampling = Literal["uniform", "balanced"]
Activation = Literal["gelu", "gelu_exact", "relu", "silu", "tanh", "sigmoid", "linear"]

# TensorFlow shuffles by the seed modulo 2^31 - 1, and JAX drops all but its low 32 bits: beyond
# this bound, two seeds would draw the same.
Seed = Annotated[int, Between(0, 2**31 - 2), "seed of every random choice"]
Steps = Between(1, 10**9)  # with PRETRAINED_STEP below 2^31, as T5X counts
Length = Annotated[int, Between(2, 65_536)]  # tokens, of which the end of sequence is one
BATCH_TOKENS = 2**26  # most tokens of a batch; it is built in the host's memory, several ahead


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Shape of a T5 1.1 encoder-decoder; gin macros carry the same names as T5X's."""

    vocab_size: Annotated[int, Between(1, 10**7), "rows of the embedding"]
    emb_dim: Annotated[int, Between(1, 10**6), "width of the residual stream"]
    num_heads: Annotated[int, Between(1, 10**5), "attention heads"]
    num_encoder_layers: Annotated[int, Between(1, 10**4), "layers of the encoder"]
    num_decoder_layers: Annotated[int, Between(1, 10**4), "layers of the decoder"]
    head_dim: Annotated[int, Between(1, 10**5), "width of a head"]
    mlp_dim: Annotated[int, Between(1, 10**7), "width inside the MLP"]
    mlp_activations: Annotated[
        tuple[Activation, ...], Entries(1, 8), "of the MLP's branches, which are multiplied"
    ] = ("gelu", "linear")
    logits_via_embedding: Annotated[bool, "whether the output layer is the embedding"] = False
    dropout_rate: Annotated[float, Between(0, 1, below=True), "in training only"] = 0.0
    dtype: Annotated[Literal["float32", "bfloat16"], "of activations; parameters are float32"] = (
        "float32"
    )
    remat_policy: Annotated[
        Literal["none", "dots", "full"], "what the backward pass computes again, to save memory"
    ] = "none"


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A checkpoint to start from: its name, its shape and where its files are."""

    name: Annotated[str, Name(), "what the model is called"]
    network: NetworkConfig
    checkpoint: Annotated[str, Place(), "a folder, an address in a bucket or hf:owner/name"]
    vocabulary: Annotated[str, Place(), "a SentencePiece model"]
    pretrained_step: Annotated[
        int, Between(0, 10**9), "steps of pretraining, which T5X goes on counting from"
    ] = 0


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What `prepare` reads and how many rows it writes."""

    origin: Annotated[Literal["hub", "mirror", "miniature"], "where the 17 data sets come from"] = (
        "miniature"
    )
    mirror: Annotated[
        Annotated[str, Place()] | None, "folder in the hub's layout, for the origin 'mirror'"
    ] = None
    surveys: Annotated[
        Annotated[str, Place()] | None, "folder of the three survey files; None: by the origin"
    ] = None
    instructions: Annotated[
        Annotated[str, Place()] | None, "a .jsonl or .parquet file; None: by the origin"
    ] = None
    evaluations: Annotated[
        tuple[Annotated[str, Place()], ...], "files of further evaluation sets, .jsonl"
    ] = ()
    data_sets: Annotated[tuple[str, ...], DataSets(), "which of the 17; empty means all"] = ()
    num_examples: Annotated[int, Between(1, 10**7), "claims to train on, before filtration"] = (
        100_000
    )
    num_instructions: Annotated[int, Between(1, 10**6), "instruction rows to train on"] = 20_000
    num_validation: Annotated[
        int, Between(1, 10**6), "held-out claims, and as many held-out instructions"
    ] = 1_000
    num_survey_items: Annotated[int, Between(1, 10**6), "items of each survey"] = 1_000
    claim_mode: Annotated[
        ClaimMode, "what makes a claim false: its negation alone, or a wrong label too"
    ] = "paper"
    sampling: Annotated[Sampling, "over all texts, or as many from each data set"] = "uniform"
    opinions: Annotated[bool, "whether training rows say what the user thinks"] = True
    on_bad_row: Annotated[
        Literal["drop", "stop"], "leave bad rows out, up to a share, or refuse the first"
    ] = "drop"
    seed: Seed = 0


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The finetuning recipe."""

    finetune_steps: Annotated[int, Steps, "optimizer steps"] = 1_000
    batch_size: Annotated[int, Between(1, 65_536), "packed rows of a step"] = 32
    input_length: Length = 512  # TASK_FEATURE_LENGTHS["inputs"]
    target_length: Length = 64  # TASK_FEATURE_LENGTHS["targets"]
    packing: Annotated[bool, "whether a row holds several examples"] = True
    learning_rate: Annotated[
        float, Between(0, 10**6), "constant, relative to a tensor's root mean square"
    ] = 5e-4
    dropout_rate: Annotated[float, Between(0, 1, below=True)] = 0.05
    z_loss: Annotated[float, Between(0, 10**6), "weight of the squared log-partition"] = 1e-4
    microbatches: Annotated[
        int, Between(1, 65_536), "parts of a batch, done one after the other to save memory"
    ] = 1
    mixture_or_task_name: Annotated[str, Text(1, 200), "what is trained on, by SeqIO's name"] = (
        "sycophancy_mix"
    )
    mixture_ratio: Annotated[
        tuple[float, float], Rates(1e-6, 10**6), "intervention : instruction tuning"
    ] = (5.0, 1.0)
    save_period: Annotated[int, Steps, "steps between checkpoints"] = 250
    save_minutes: Annotated[
        Annotated[float, Between(0, 10**6)] | None, "also save at a logged step after so long"
    ] = None
    keep_checkpoints: Annotated[
        Annotated[int, Between(1, 10**9)] | None, "keep the newest N; None: all"
    ] = 1
    keep_period: Annotated[
        Annotated[int, Steps] | None, "keep the steps divisible by this, too"
    ] = None
    log_period: Annotated[int, Steps, "steps between logged losses"] = 20
    mesh: Annotated[
        tuple[int, int, int],
        MeshSizes(10**6, AUTO),
        "devices along data, fsdp and model; -1: the rest; (-1, -1, 1): by the model's size",
    ] = (-1, 1, 1)
    seed: Seed = 0


@dataclasses.dataclass(frozen=True)
class Config:
    """One run, whole."""

    model: ModelConfig
    data: DataConfig
    training: TrainingConfig
    filtration: Annotated[bool, "whether to drop claims that the model does not know"]
    recipe: Annotated[str, Name(nested=True), "what the recipe is called"]
    trainer: Annotated[Literal["jax", "t5x"], "our own, or the real T5X in a process of its own"]
    operative: str  # the gin macros of the run, as text that gin parses back to the same run


PACKAGE = "package:"  # a path that starts so lies inside the installed package
