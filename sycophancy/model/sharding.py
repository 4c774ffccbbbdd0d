"""Splits arrays over a mesh of devices, data x fsdp x model, by T5X's logical axes."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import ArrayLike

from sycophancy.config.schema import AUTO_MESH, MESH_AXES, DecoderConfig, Network
from sycophancy.model.decoder import DecoderTransformer
from sycophancy.model.mesh import Shape, auto_mesh, filled
from sycophancy.model.network import Transformer
from sycophancy.model.parameters import ParameterTree, StateTree
from sycophancy.model.size import state_bytes

BATCH_AXES = ("data", "fsdp")

Rules = tuple[tuple[str, str | tuple[str, ...] | None], ...]


def make_mesh(shape: Shape, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of all devices whose shape is (data, fsdp, model); see `mesh.filled` for -1.

    Raises:
      UserError: no mesh of this shape has exactly these devices.
    """
    devices = jax.devices() if devices is None else devices
    return Mesh(np.asarray(devices).reshape(filled(shape, len(devices))), MESH_AXES)


def resolve(
    shape: Shape, network: Network, memory: int | None = None, optimizer: str = "adafactor"
) -> Shape:
    """Replaces AUTO_MESH by the shape that `auto_mesh` chooses for a finetuning of `network`.

    Args:
      shape: data, fsdp, model.
      network: the network to finetune.
      memory: bytes of memory of a device; by default the first local device's.
      optimizer: its name; AdamW's moments need as much memory as parameters and gradients.
    """
    if shape != AUTO_MESH:
        return shape
    if memory is None:  # only local devices have statistics
        memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return auto_mesh(shape, state_bytes(network, optimizer), memory)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: its rows are split over data and fsdp."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def logical_rules(network: Network, mesh: Mesh) -> Rules:
    """The mesh axis, or None, for each of T5X's logical axes.

    A batch is split over data and fsdp. A matrix is split over fsdp along its embedding axis, and
    over model along its other axis. An axis whose size the mesh axis does not divide (6 heads on 4
    devices) is not split. Key and value heads are fewer than query heads in most decoder-only
    models; those that the mesh axis does not divide are computed by every device of it.
    """
    kv_heads = network.num_kv_heads if isinstance(network, DecoderConfig) else network.num_heads
    wanted = (
        ("vocab", network.vocab_size, "model"),
        ("mlp", network.mlp_dim, "model"),
        ("heads", network.num_heads, "model"),
        ("joined_kv", network.num_heads * network.head_dim, "model"),
        ("kv_heads", kv_heads, "model"),
        ("joined_kv_heads", kv_heads, "model"),  # split between heads only
        ("embed", network.emb_dim, "fsdp"),
    )
    return (
        ("batch", BATCH_AXES),
        *((name, axis if size % mesh.shape[axis] == 0 else None) for name, size, axis in wanted),
        *((name, None) for name in ("kv", "length", "layers", "relpos_buckets")),
    )


def module(network: Network) -> nn.Module:
    """The Flax module that computes a network."""
    if isinstance(network, DecoderConfig):
        return DecoderTransformer(network)
    return Transformer(network)


@functools.lru_cache(maxsize=32)  # tracing the network takes as long as reading a small checkpoint
def abstract_params(network: Network) -> ParameterTree:
    """The network's parameter tree of `jax.ShapeDtypeStruct`, in Flax's boxes with logical axes."""
    tokens = jax.ShapeDtypeStruct((1, 2), np.int32)
    key = jax.random.key(0)
    inputs = (tokens,) if isinstance(network, DecoderConfig) else (tokens, tokens, tokens)
    variables = jax.eval_shape(module(network).init, key, *inputs)
    params: ParameterTree = variables["params"]
    return params


def sharded_params(network: Network, mesh: Mesh) -> ParameterTree:
    """The network's parameter tree of `jax.ShapeDtypeStruct` with shardings."""
    boxed = abstract_params(network)
    shardings = nn.logical_to_mesh_sharding(
        nn.get_partition_spec(boxed), mesh, logical_rules(network, mesh)
    )
    params: ParameterTree = jax.tree.map(
        lambda param, sharding: jax.ShapeDtypeStruct(param.shape, param.dtype, sharding=sharding),
        nn.unbox(boxed),
        shardings,
    )
    return params


def like_params(state: StateTree, params: ParameterTree, mesh: Mesh) -> StateTree:
    """Adds shardings to a training state.

    A subtree with the structure of `params`, such as the optimizer's moments, gets the shardings of
    `params`. Every other array, and a moment with another shape than its parameter (a factored
    moment), is small, and every device holds it whole.

    Args:
      state: tree of `jax.ShapeDtypeStruct`.
      params: tree of `jax.ShapeDtypeStruct` with shardings.
      mesh: the devices.
    """
    structure: object = jax.tree.structure(params)

    def has_structure(node: StateTree) -> bool:
        return bool(jax.tree.structure(node) == structure)

    def place(
        array: jax.ShapeDtypeStruct, param: jax.ShapeDtypeStruct | None = None
    ) -> jax.ShapeDtypeStruct:
        same = param is not None and array.shape == param.shape
        sharding = param.sharding if param is not None and same else replicated(mesh)
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)

    def place_tree(node: StateTree) -> StateTree:
        return jax.tree.map(place, node, params) if has_structure(node) else place(node)

    return jax.tree.map(place_tree, state, is_leaf=has_structure)


def shardings_of(tree: StateTree) -> StateTree:
    """The shardings of a tree of arrays or of `jax.ShapeDtypeStruct`."""
    return jax.tree.map(lambda array: array.sharding, tree)


def put(tree: StateTree, shardings: StateTree) -> StateTree:
    """Copies a tree of host arrays, equal in every process, to the devices of all processes."""

    def put_array(lazy: ArrayLike, sharding: NamedSharding) -> jax.Array:
        array = np.asarray(lazy)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put_array, tree, shardings)


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> Mapping[str, jax.Array]:
    """Copies a batch, equal in every process, to the devices, which split its rows."""
    placed: Mapping[str, jax.Array] = put(
        dict(batch), {name: batch_sharding(mesh) for name in batch}
    )
    return placed
