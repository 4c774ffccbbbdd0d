"""The typed configuration of a run; each field is the one declaration of a setting.

    batch_size: Annotated[int, Between(1, 65_536), "Packed rows in a batch, over all devices."] = 32

The annotation has the type, the limits (`bounds`), perhaps markers (`markers`) and the help text.
The setting's gin macro is the field's name in upper case, unless `Macro` names another. Reading,
checks, error messages, `config.gin` and the reference page follow from these declarations
(`declarations`). A field without a help text is no setting.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, get_args

from sycophancy.config.bounds import (
    Between,
    DataSets,
    Distinct,
    Entries,
    MeshSizes,
    Name,
    Place,
    Rates,
    Text,
)
from sycophancy.config.markers import (
    ByContent,
    Label,
    Macro,
    MeasuredOnly,
    Operational,
    RelativeToGinFile,
    Renamed,
    SameAs,
)

ClaimMode = Literal["paper", "balanced"]
OtherAbility = Literal["auto", "mmlu", "bbh"]
Sampling = Literal["uniform", "balanced"]
HeldOutSet = Literal["comparison", "parity", "subtraction", "subtraction_near", "spelling", "facts"]
PublicSet = Literal[
    "suggested_answer/truthfulqa",
    "are_you_sure/truthfulqa",
    "are_you_sure/mmlu",
    "genies/answer",
    "genies/are_you_sure",
]
Architecture = Literal["encoder-decoder", "decoder-only"]
Chat = Literal["auto", "raw", "template"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Baseline = Literal["truthful", "rewrite"]
Activation = Literal["gelu", "gelu_exact", "relu", "silu", "tanh", "sigmoid", "linear"]
ActivationType = Literal["float32", "bfloat16"]
ScoreType = Literal["auto", "float32", "bfloat16"]
RematPolicy = Literal["none", "dots", "full"]

MESH_AXES = ("data", "fsdp", "model")
AUTO_MESH = (-1, -1, 1)  # chosen by the model's size and the devices' memory
BATCH_TOKENS = 2**26  # most tokens of a batch; the host builds several batches ahead in its memory
PACKAGE = "package:"  # a path with this prefix lies inside the installed package

FilePlace = Annotated[str, Place()]
Steps = Annotated[int, Between(1, 10**9)]  # T5X adds PRETRAINED_STEP and counts below 2^31
Length = Annotated[int, Between(2, 65_536)]  # tokens; the end of sequence is one of them


@dataclasses.dataclass(frozen=True)
class Lengths:
    """The length of a packed training row, in tokens."""

    inputs: Length = 512
    targets: Length = 64


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Shape of a T5 1.1 encoder-decoder; the macros are named as in T5X's gin files."""

    vocab_size: Annotated[int, Between(1, 10**7), "Rows of the embedding."]
    emb_dim: Annotated[int, Between(1, 10**6), Macro("EMBED_DIM"), "Width of the residual stream."]
    num_heads: Annotated[int, Between(1, 10**5), "Attention heads of a layer."]
    num_encoder_layers: Annotated[int, Between(1, 10**4), "Layers of the encoder."]
    num_decoder_layers: Annotated[int, Between(1, 10**4), "Layers of the decoder."]
    head_dim: Annotated[int, Between(1, 10**5), "Width of an attention head."]
    mlp_dim: Annotated[int, Between(1, 10**7), "Width inside the MLP."]
    mlp_activations: Annotated[
        tuple[Activation, ...],
        Entries(1, 8),
        "Activation of each branch of the MLP; the branches are multiplied.",
    ] = ("gelu", "linear")
    logits_via_embedding: Annotated[
        bool, "Whether the output layer shares the embedding's parameters."
    ] = False
    dropout_rate: Annotated[float, SameAs("DROPOUT_RATE")] = 0.0
    dtype: Annotated[
        ActivationType,
        "Type of activations in training; parameters are always float32.",
    ] = "float32"
    remat_policy: Annotated[
        RematPolicy,
        Operational(),
        "Which activations the backward pass computes again to save memory: none, all but the "
        "results of matrix products (dots), or all (full).",
    ] = "none"


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are lowered so that a model reads longer texts than at first.

    Attributes:
        kind: "linear" divides every frequency by `factor`; "llama3" divides low frequencies only.
        factor: the divisor, at least 1.
        low_frequency_factor: llama3 divides the frequencies with at most this many periods in
            `original_length` by `factor`.
        high_frequency_factor: llama3 keeps the frequencies with at least this many periods, and
            interpolates in between.
        original_length: tokens of the longest text before the change.
    """

    kind: Literal["linear", "llama3"]
    factor: float
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_length: int = 8192


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Shape of a decoder-only model (Llama, Qwen, Gemma); its checkpoint's folder states it.

    Attributes:
        vocab_size: rows of the embedding.
        emb_dim: width of the residual stream.
        num_layers: layers.
        num_heads: query heads of a layer.
        num_kv_heads: key and value heads of a layer; each serves num_heads / num_kv_heads queries.
        head_dim: width of a head.
        mlp_dim: width inside the gated MLP.
        activation: of the MLP's gate.
        norm_epsilon: what the norms add to the mean square.
        norm_offset: whether norms multiply by 1 + scale, as in Gemma.
        logits_via_embedding: whether the output layer shares the embedding's parameters.
        embedding_scale: factor of the embedded tokens.
        query_scale: factor of the attention's scores.
        qkv_bias: whether queries, keys and values have biases.
        out_bias: whether the attention's output projection has one.
        mlp_bias: whether the MLP's projections have biases.
        query_key_norm: whether each query head and key head is normed before the rotation.
        post_norms: whether the outputs of attention and MLP are normed before they are added.
        rope_theta: base of the rotary frequencies.
        rope_scaling: how these are scaled; None: not at all.
        window: how many positions a sliding layer sees, its own included.
        sliding_layers: the numbers of the sliding layers; the others see all earlier positions.
        local_rope_theta: base of the sliding layers' rotary frequencies, which are not scaled;
            None: theirs are those of the other layers.
        attention_logit_softcap: scores become softcap * tanh(score / softcap); None: they do not.
        final_logit_softcap: likewise for the logits.
        dropout_rate: share of activations that training drops at each residual connection.
        dtype: type of activations; parameters are float32.
        remat_policy: as in `NetworkConfig`.
    """

    vocab_size: int
    emb_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    query_scale: float
    activation: Activation = "silu"
    norm_epsilon: float = 1e-6
    norm_offset: bool = False
    logits_via_embedding: bool = False
    embedding_scale: float = 1.0
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    query_key_norm: bool = False
    post_norms: bool = False
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    window: int | None = None
    sliding_layers: tuple[int, ...] = ()
    local_rope_theta: float | None = None
    attention_logit_softcap: float | None = None
    final_logit_softcap: float | None = None
    dropout_rate: float = 0.0
    dtype: ActivationType = "float32"
    remat_policy: RematPolicy = "none"


Network: TypeAlias = NetworkConfig | DecoderConfig


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A checkpoint to start from: its name, its kind and the place of its files.

    Attributes:
        encoder_decoder: the shape of an encoder-decoder; None for a decoder-only model, whose
            folder says what it is.
        shape_of: reads the shape of a decoder-only checkpoint.
    """

    name: Annotated[
        str,
        Name(),
        Macro("MODEL_NAME"),
        Label(),
        "The model's name in reports; by default from --model.",
    ]
    encoder_decoder: NetworkConfig | None
    checkpoint: Annotated[
        str,
        Place(),
        Macro("INITIAL_CHECKPOINT_PATH"),
        ByContent(),
        "Checkpoint to start from: a folder, an address in a bucket or hf:owner/name; "
        "package:PATH lies inside the installed package.",
    ]
    vocabulary: Annotated[
        str,
        Place(),
        ByContent(),
        "SentencePiece model: a file, an address in a bucket or hf:owner/name/spiece.model; "
        "package:PATH lies inside the installed package. Of a decoder-only model: the folder or "
        "hf:owner/name of its tokenizer.",
    ]
    pretrained_step: Annotated[
        int, Between(0, 10**9), "Steps of pretraining. T5X continues to count from this step."
    ] = 0
    architecture: Annotated[
        Architecture,
        "Kind of model, by default that of the checkpoint.",
    ] = "encoder-decoder"
    chat: Annotated[
        Chat,
        Renamed((("yes", "template"), ("no", "raw"))),
        "How a decoder-only model reads a prompt: as turns in its chat template (template), or as "
        "the text it is (raw); auto: in the template if it has one.",
    ] = "auto"
    precision: Annotated[
        Precision,
        "Type of the parameters of a decoder-only model that transformers computes; auto: float32 "
        "on a processor, bfloat16 on an accelerator.",
    ] = "auto"

    dtype: Annotated[ActivationType, SameAs("DTYPE")] = "float32"
    remat_policy: Annotated[RematPolicy, SameAs("REMAT_POLICY")] = "none"
    shape_of: Callable[[str], DecoderConfig] | None = dataclasses.field(
        default=None, repr=False, compare=False
    )

    @property
    def is_decoder(self) -> bool:
        """Whether this is a decoder-only model."""
        return self.architecture == "decoder-only"

    @functools.cached_property
    def network(self) -> Network:
        """The shape of the network: of a decoder-only model, what its checkpoint says.

        Raises:
            UserError: the checkpoint is none, or one of a decoder-only model that is not computed
                here.
        """
        if self.encoder_decoder is not None:
            return self.encoder_decoder
        assert self.shape_of is not None
        shape = self.shape_of(self.checkpoint)
        return dataclasses.replace(shape, dtype=self.dtype, remat_policy=self.remat_policy)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which data `prepare` reads and how many rows it writes."""

    origin: Annotated[
        Literal["hub", "mirror", "miniature"],
        Macro("DATA_ORIGIN"),
        "Where the 17 data sets come from: the Hugging Face hub, the folder DATA_MIRROR, or the "
        "generated miniature.",
    ] = "miniature"
    mirror: Annotated[
        FilePlace | None,
        Macro("DATA_MIRROR"),
        ByContent(),
        "Folder with copies of the data sets, laid out as on the hub; for DATA_ORIGIN 'mirror'.",
    ] = None
    surveys: Annotated[
        FilePlace | None,
        ByContent(),
        "Folder with the three survey files; None: the surveys of DATA_ORIGIN.",
    ] = None
    instructions: Annotated[
        FilePlace | None,
        ByContent(),
        "File of instruction rows (.jsonl, .csv, .tsv or .parquet); None: the instructions of "
        "DATA_ORIGIN.",
    ] = None
    data_sets: Annotated[
        tuple[str, ...],
        DataSets(),
        "Which data sets to use, of the 17 and those of DATA_SET_FILES; empty: all.",
    ] = ()
    data_set_files: Annotated[
        tuple[FilePlace, ...],
        ByContent(),
        RelativeToGinFile(),
        "TOML files of your own data sets.",
    ] = ()
    evaluations: Annotated[
        tuple[FilePlace, ...],
        ByContent(),
        RelativeToGinFile(),
        "JSONL files of your own evaluation sets.",
    ] = ()
    public_sets: Annotated[
        tuple[PublicSet, ...],
        Distinct(),
        MeasuredOnly(),
        "Published evaluation sets to measure beside the paper's; empty: none.",
    ] = ()
    public_sets_folder: Annotated[
        FilePlace | None,
        ByContent(),
        "Folder with the files of PUBLIC_SETS; None: they are downloaded.",
    ] = None
    num_examples: Annotated[
        int,
        Between(0, 10**7),
        "Claims to generate for training, before filtration; 0 for a run that only evaluates.",
    ] = 100_000
    num_instructions: Annotated[
        int,
        Between(0, 10**6),
        "Instruction rows for training; 0 also leaves out the held-out instructions.",
    ] = 20_000
    num_validation: Annotated[
        int,
        Between(0, 10**6),
        "Held-out claims, and the same number of held-out instructions; 0 for neither.",
    ] = 1_000
    num_survey_items: Annotated[int, Between(1, 10**6), MeasuredOnly(), "Items of each survey."] = (
        1_000
    )
    num_public_items: Annotated[
        int, Between(1, 10**6), MeasuredOnly(), "Questions of each public set, at most."
    ] = 1_000
    held_out_sets: Annotated[
        tuple[HeldOutSet, ...],
        MeasuredOnly(),
        "Which of the generated held-out sets to ask; empty: none.",
    ] = get_args(HeldOutSet)
    num_held_out_items: Annotated[
        int,
        Between(48, 4_800),
        MeasuredOnly(),
        "Questions of each held-out set, rounded down to a multiple of 48.",
    ] = 192
    max_questions: Annotated[
        Annotated[int, Between(1, 10**7)] | None,
        MeasuredOnly(),
        "Questions of each task that is measured, at most, drawn by SEED; None: all.",
    ] = None
    claim_mode: Annotated[
        ClaimMode,
        "What makes a claim false: only a negation ('paper'), or a wrong label, too ('balanced').",
    ] = "paper"
    sampling: Annotated[
        Sampling,
        "Draw claims uniformly from all texts, or the same number from each data set ('balanced').",
    ] = "uniform"
    opinions: Annotated[bool, "Whether training rows state the user's opinion."] = True
    on_bad_row: Annotated[
        Literal["drop", "stop"],
        "Leave out rows that cannot be used, up to a share of a file, or stop at the first.",
    ] = "drop"
    # TensorFlow shuffles by the seed modulo 2^31 - 1, and JAX drops all but its low 32 bits: two
    # larger seeds could draw the same.
    seed: Annotated[int, Between(0, 2**31 - 2), "Seed of every random choice of a run."] = 0


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How the model is finetuned."""

    finetune_steps: Annotated[Steps, "Optimizer steps of finetuning."] = 1_000
    batch_size: Annotated[int, Between(1, 65_536), "Packed rows in a batch, over all devices."] = 32
    task_feature_lengths: Annotated[
        Lengths,
        "Tokens of a packed row, the end of sequence included. Longer examples are left out.",
    ] = Lengths()
    packing: Annotated[bool, "Whether a row may hold several examples."] = True
    optimizer: Annotated[
        Literal["adafactor", "adamw"], "Adafactor as T5X has it, or AdamW (optax), in float32."
    ] = "adafactor"
    learning_rate: Annotated[
        float,
        Between(0, 10**6),
        "Constant learning rate. Adafactor's is relative to a parameter's root mean square, so "
        "AdamW needs a smaller one, such as 1e-5.",
    ] = 5e-4
    weight_decay: Annotated[
        float, Between(0, 10**6), "AdamW's weight decay; Adafactor has none."
    ] = 0.0
    dropout_rate: Annotated[
        float, Between(0, 1, below=True), "Share of activations dropped in training."
    ] = 0.05
    z_loss: Annotated[
        float, Between(0, 10**6), "Weight of the squared logarithm of the softmax's normalizer."
    ] = 1e-4
    microbatches: Annotated[
        int,
        Between(1, 65_536),
        "Parts of a batch that are computed one after another, to save memory.",
    ] = 1
    mixture_or_task_name: Annotated[
        str, Text(1, 200), "SeqIO's name of the task or mixture to train on."
    ] = "sycophancy_mix"
    mixture_ratio: Annotated[
        tuple[float, float],
        Rates(1e-6, 10**6),
        "Claims to instructions in sycophancy_mix.",
    ] = (5.0, 1.0)  # Wei et al. 2023, section 4.2
    save_period: Annotated[Steps, Operational(), "Steps between checkpoints."] = 250
    save_minutes: Annotated[
        Annotated[float, Between(0, 10**6)] | None,
        Operational(),
        "Also save at a logged step after this many minutes without a checkpoint.",
    ] = None
    keep_checkpoints: Annotated[
        Annotated[int, Between(1, 10**9)] | None,
        Operational(),
        "Keep the newest N checkpoints; None: keep all.",
    ] = 1
    keep_period: Annotated[
        Steps | None, Operational(), "Also keep checkpoints at steps divisible by this."
    ] = None
    log_period: Annotated[Steps, Operational(), "Steps between logged losses."] = 20
    mesh: Annotated[
        tuple[int, int, int],
        MeshSizes(10**6, AUTO_MESH),
        Operational(),
        "Devices along the axes data, fsdp and model; -1: all remaining devices; (-1, -1, 1): "
        "chosen by the model's size.",
    ] = (-1, 1, 1)
    seed: Annotated[int, SameAs("SEED")] = 0

    @property
    def input_length(self) -> int:
        """Tokens of a row that the encoder reads."""
        return self.task_feature_lengths.inputs

    @property
    def target_length(self) -> int:
        """Tokens of a row that the decoder writes."""
        return self.task_feature_lengths.targets


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration of one run.

    Attributes:
        operative: the run's settings as gin text, which reads back as the same configuration.
    """

    model: ModelConfig
    data: DataConfig
    training: TrainingConfig
    filtration: Annotated[
        bool, "Whether to drop training claims that the model does not judge correctly."
    ] = True
    filter_balance: Annotated[
        bool,
        "Whether to keep, of the claims that the model judges correctly, equally many true and "
        "false ones of each data set. Needs FILTRATION.",
    ] = False
    score_dtype: Annotated[
        ScoreType,
        MeasuredOnly(),
        "Type of weights and activations in filtration and evaluation, where JAX computes the "
        "model; auto: float32 on a processor, bfloat16 on an accelerator. Close decisions are "
        "repeated in float32, so every decision is float32's.",
    ] = "auto"
    recipe: Annotated[
        str, Name(nested=True), Label(), "The recipe's name in reports; by default from --recipe."
    ]
    trainer: Annotated[
        Literal["jax", "t5x"], "Finetune with the in-tree trainer, or with T5X as a subprocess."
    ] = "jax"
    retention: Annotated[
        tuple[OtherAbility, ...],
        Distinct(),
        MeasuredOnly(),
        "Other abilities to measure before and after finetuning; empty: none; 'auto': both, as far "
        "as the extra `harness` is installed and their rows can be had.",
    ] = ()
    retention_limit: Annotated[
        Annotated[int, Between(1, 10**6)] | None,
        MeasuredOnly(),
        "Questions of each subject of RETENTION, the first ones; None: all.",
    ] = None
    bbh_folder: Annotated[
        FilePlace | None,
        ByContent(),
        "Folder with BIG-Bench Hard as published, a file TASK.json for each task; None: from the "
        "mirror or the hub.",
    ] = None
    baselines: Annotated[
        tuple[Baseline, ...],
        Distinct(),
        MeasuredOnly(),
        "Prompts to try instead of finetuning, on the model as it is: an instruction to be "
        "truthful ('truthful'), the user's view removed by the model itself ('rewrite'); empty: "
        "none.",
    ] = ()
    num_baseline_items: Annotated[
        int, Between(1, 10**6), MeasuredOnly(), "Questions of each task that BASELINES ask."
    ] = 200
    wandb_project: Annotated[
        Annotated[str, Name()] | None,
        Operational(),
        "Project on Weights & Biases that shows the run; None: none.",
    ] = None
    operative: str


def inside_package(path: str) -> str:
    """Resolves a path with the prefix `package:`; returns any other path unchanged."""
    if not path.startswith(PACKAGE):
        return path
    return str(Path(__file__).resolve().parents[1] / path.removeprefix(PACKAGE))
