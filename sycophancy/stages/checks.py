"""Checks that several stages share: what would stop a run is found before its first stage.

Each check is made again where its fact is used; here it is only made early.
"""

from __future__ import annotations

from sycophancy.config.schema import Config
from sycophancy.engine.run_folder import RunFolder
from sycophancy.errors import UserError
from sycophancy.model.mesh import auto_mesh, check_batch, filled
from sycophancy.model.size import parameter_bytes, saved_activation_bytes
from sycophancy.stages.memory import WAYS_OUT, device_memory, host_memory
from sycophancy.stages.models import training_encoder


def check_platform(config: Config, run: RunFolder) -> None:
    """Starts JAX on the devices that the environment names.

    Raises:
        UserError: JAX does not start there.
    """
    from sycophancy.engine import distributed

    if _is_computed_here(config):
        distributed.check_platform()


def check_model(config: Config, run: RunFolder) -> None:
    """Opens the vocabulary and the checkpoint, without reading arrays.

    Raises:
        UserError: one of them is missing, damaged or another model's.
    """
    from sycophancy.model import decoders
    from sycophancy.model.checkpoints.formats import open_checkpoint
    from sycophancy.model.decoder_text import load_text
    from sycophancy.model.vocabulary import Vocabulary

    model = config.model
    if not _is_computed_here(config):
        decoders.check(model.checkpoint)
        return
    if model.is_decoder:
        # A tokenizer may have more ids than the model: special tokens that it was never given.
        load_text(model.vocabulary, model.chat)
        open_checkpoint(model.checkpoint).check(model.network)
        return
    pieces, rows = Vocabulary(model.vocabulary).size, model.network.vocab_size
    if pieces > rows:
        raise UserError(
            f"vocabulary {model.vocabulary} has {pieces:,} pieces, the network {rows:,} rows; "
            "set VOCABULARY to the one the checkpoint was trained with"
        )
    open_checkpoint(model.checkpoint).check(model.network)


def check_mesh(config: Config, run: RunFolder) -> None:
    """Refuses a MESH that does not fit the devices of all processes.

    Raises:
        UserError: names MESH and the number of devices.
    """
    if _is_computed_here(config):
        _mesh(config)


def check_trainable(config: Config, run: RunFolder) -> None:
    """Refuses a model that cannot be finetuned, and a run without rows to train on.

    Raises:
        UserError: names the model, or the setting that asks for no rows.
    """
    training, data = config.training, config.data
    _ = config.model.network
    mixed = training.mixture_or_task_name.startswith("sycophancy_mix")
    for macro, rows, task, ratio in (
        ("NUM_EXAMPLES", data.num_examples, "sycophancy_intervention", training.mixture_ratio[0]),
        (
            "NUM_INSTRUCTIONS",
            data.num_instructions,
            "instruction_tuning",
            training.mixture_ratio[1],
        ),
    ):
        if not rows and (training.mixture_or_task_name == task or (mixed and ratio > 0)):
            raise UserError(
                f"{macro} is 0, so there is nothing to finetune on: recipe {config.recipe} only "
                "evaluates; give another --recipe, such as paper"
            )


def check_lengths(config: Config, run: RunFolder) -> None:
    """Refuses TASK_FEATURE_LENGTHS that are too short for a prompt around an empty claim.

    Raises:
        UserError: names the length of the shortest training row.
    """
    from sycophancy.data import prompts

    training = config.training
    if training.mixture_or_task_name == "instruction_tuning" or training.mixture_ratio[0] == 0:
        return
    prompt = prompts.INTERVENTION_WITHOUT_OPINION.format(claim="", tail=prompts.TAIL)
    (row,) = training_encoder(config.model)([prompt], [prompts.LETTERS[0]])
    for part, tokens, length in (
        ("inputs", row.inputs, training.input_length),
        ("targets", row.targets, training.target_length),
    ):
        if (least := len(tokens)) > length:
            raise UserError(
                f"TASK_FEATURE_LENGTHS: {part} {length} is too short: the shortest training row "
                f"has {least} tokens"
            )


def check_batch_memory(config: Config, run: RunFolder) -> None:
    """Refuses a BATCH_SIZE that does not fit MESH, or a step that does not fit the memory.

    Raises:
        UserError: names BATCH_SIZE, the memory there is, and the ways out.
    """
    import jax

    training, network = config.training, config.model.network
    mesh = _mesh(config)
    check_batch(training.batch_size, training.microbatches, mesh)
    available = device_memory(jax.local_devices()[0]) or host_memory() / jax.local_device_count()
    rows = training.batch_size // (mesh[0] * mesh[1] * training.microbatches)
    kept = saved_activation_bytes(network, rows, training.input_length, training.target_length)
    # Half of what the formulas say: the compiler was seen to need 0.9 to 28 times as much.
    least = (2 * parameter_bytes(network) / (mesh[1] * mesh[2]) + kept / mesh[2]) / 2
    if least > available:
        raise UserError(
            f"a step of BATCH_SIZE {training.batch_size} needs more than {least / 1e9:,.1f} GB on "
            f"each device, which has {available / 1e9:,.1f} GB: {WAYS_OUT}"
        )


def _mesh(config: Config) -> tuple[int, int, int]:
    """The sizes of the mesh on the devices of all processes; importing JAX takes a second."""
    import jax

    memory = device_memory(jax.local_devices()[0])
    state = 2 * parameter_bytes(config.model.network)
    return filled(auto_mesh(config.training.mesh, state, memory), jax.device_count())


def _is_computed_here(config: Config) -> bool:
    """Whether the in-tree networks compute the model; if not, `transformers` does."""
    from sycophancy.model import decoders

    return not config.model.is_decoder or decoders.is_computed_here(config.model.checkpoint)
