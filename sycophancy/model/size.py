"""How many parameters a network has, and how many bytes it needs: closed forms, without JAX."""

from __future__ import annotations

from sycophancy.config.schema import DecoderConfig, Network, NetworkConfig

SPARSE_CHUNK = 16  # positions whose logits the loss of a decoder-only model holds at once
QUERY_BLOCK = 128  # queries whose attention a decoder-only model computes at a time
_POSITION_BUCKETS = 32  # of the relative position biases of each stack


def parameter_count(network: Network) -> int:
    """Parameters of a network, norms and position biases included.

    Example:
        >>> from sycophancy.config.load import load_config
        >>> parameter_count(load_config("flan_t5_small", "paper").model.network)
        76961152
    """
    if isinstance(network, DecoderConfig):
        return _decoder_parameters(network)
    attention, mlp = layer_parameters(network)
    width = network.emb_dim
    encoder = network.num_encoder_layers * (attention + mlp + 2 * width)
    decoder = network.num_decoder_layers * (2 * attention + mlp + 3 * width)
    tables = (1 if network.logits_via_embedding else 2) * network.vocab_size * width
    return encoder + decoder + tables + 2 * (width + _POSITION_BUCKETS * network.num_heads)


def layer_parameters(network: NetworkConfig) -> tuple[int, int]:
    """Parameters of one attention and of one MLP, without norms."""
    joined = network.num_heads * network.head_dim
    branches = len(network.mlp_activations) + 1
    return 4 * network.emb_dim * joined, branches * network.emb_dim * network.mlp_dim


def decoder_layer_parameters(network: DecoderConfig) -> tuple[int, int]:
    """The entries of the matrices of one attention and of one MLP, without biases and norms."""
    heads = 2 * (network.num_heads + network.num_kv_heads)
    return heads * network.emb_dim * network.head_dim, 3 * network.emb_dim * network.mlp_dim


def _decoder_parameters(network: DecoderConfig) -> int:
    width, inner = network.emb_dim, network.mlp_dim
    joined = network.num_heads * network.head_dim
    small = (4 if network.post_norms else 2) * width  # norms
    small += 2 * network.head_dim if network.query_key_norm else 0
    small += joined + 2 * network.num_kv_heads * network.head_dim if network.qkv_bias else 0
    small += (width if network.out_bias else 0) + (2 * inner + width if network.mlp_bias else 0)
    layer = sum(decoder_layer_parameters(network)) + small
    tables = (1 if network.logits_via_embedding else 2) * network.vocab_size * width
    return network.num_layers * layer + width + tables


def parameter_bytes(network: Network) -> int:
    """Bytes of the parameters in float32; Adafactor's factored moments add less than 1%."""
    return 4 * parameter_count(network)


def state_bytes(network: Network, optimizer: str = "adafactor") -> int:
    """Bytes of parameters and gradients and, of AdamW, the two moments of each parameter."""
    return (4 if optimizer == "adamw" else 2) * parameter_bytes(network)


def activation_bytes(network: Network) -> int:
    """Bytes of one activation in the network's dtype."""
    return 2 if network.dtype == "bfloat16" else 4


def saved_activation_bytes(
    network: Network, rows: int, inputs: int, targets: int, *, pairs: bool = True
) -> int:
    """Estimates the bytes that a forward pass keeps for the backward pass.

    Without rematerialisation it keeps, for each pair of attention, the softmax in float32, its
    product in the activations' dtype and the dropout mask; for each token, the branches of the MLP,
    the heads, and the norms in float32. REMAT_POLICY "dots" drops the pairs and norms, and "full"
    keeps only the layers' inputs.

    Args:
        network: its shape, dtype and REMAT_POLICY.
        rows: rows of the batch.
        inputs: encoder positions of a row.
        targets: decoder positions of a row. A row of a decoder-only model has both together.
        pairs: whether a T5's attention keeps anything for each pair; a GPU's fused one does not.
    """
    if isinstance(network, DecoderConfig):
        return rows * _saved_by_decoder(network, inputs + targets)
    width = activation_bytes(network)
    joined, heads = network.num_heads * network.head_dim, network.num_heads
    branches = len(network.mlp_activations) + 2
    encoder, decoder = network.num_encoder_layers, network.num_decoder_layers
    seen = heads * (encoder * inputs**2 + decoder * (targets**2 + targets * inputs))
    weights = seen * (4 + width + 2) if pairs else 0
    inner = encoder * inputs + decoder * targets
    logits = 3 * 4 * targets * network.vocab_size
    carried = network.emb_dim * width * inner
    if network.remat_policy == "full":
        return rows * (carried + logits)
    products = width * (
        inner * (branches * network.mlp_dim + 4 * joined)
        + decoder * (3 * targets + 2 * inputs) * joined
    )
    if network.remat_policy == "dots":
        return rows * (carried + products + logits)
    norms = inner * network.emb_dim * 4 * 3
    return rows * (carried + products + norms + weights + logits)


def _saved_by_decoder(network: DecoderConfig, length: int) -> int:
    """The same for one row of a decoder-only model, whose logits are computed in small parts.

    The weights of attention are computed again for one block of queries at a time, in one layer.
    Without rematerialisation, a SiLU keeps five arrays of the MLP's inner width and a GELU seven;
    each norm keeps two arrays in float32 and two in the activations' dtype; and normed query and
    key heads keep four in float32.
    """
    width = activation_bytes(network)
    layers = network.num_layers
    inner = layers * length
    carried = network.emb_dim * width * (inner + 2 * length)
    block = min(QUERY_BLOCK, length) * length * network.num_heads
    transient = 3 * 4 * (SPARSE_CHUNK * network.vocab_size + block)
    if network.remat_policy == "full":
        return carried + transient
    queries, keys = (n * network.head_dim for n in (network.num_heads, network.num_kv_heads))
    if network.remat_policy == "dots":
        return carried + width * inner * (3 * network.mlp_dim + 2 * queries + 2 * keys) + transient
    branches = 5 if network.activation == "silu" else 7
    kept = width * (branches * network.mlp_dim + 2 * queries + 2 * keys)
    kept += (4 if network.post_norms else 2) * network.emb_dim * (2 * 4 + 2 * width)
    kept += 4 * 4 * (queries + keys) if network.query_key_norm else 0
    return inner * kept + transient
