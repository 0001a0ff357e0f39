"""A model that Filigree has trained, in plain PyTorch: it reads the blocks that Filigree reads, through a dense mask.

This is a reference: it says exactly what the model computes, needs memory for sequence x sequence scores, and keeps no
cache: every new token is a pass over the whole text. Names of sizes: B batch, S sequence, H query heads, G key/value
heads, K head width, E gate width, N groups of queries, M blocks of keys.
"""
import math
import os

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import CausalLMOutput

from .configuration_filigree import FiligreeConfig


class RMSNorm(nn.Module):
    """x / sqrt(mean square + eps) * weight, over the last dimension."""

    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        wide = x.float() if x.dtype != torch.float64 else x
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return (wide * self.weight.to(wide.dtype)).to(x.dtype)


def rotary_frequencies(width, theta, scaling=None):
    """Radians per position of every pair of a head, [K/2]. scaling: as in config.json, linear or llama3."""
    plain = theta ** (-2.0 * torch.arange(width // 2, dtype=torch.float64) / width)
    if scaling is None:
        return plain
    if scaling["rope_type"] == "linear":
        return plain / scaling["factor"]
    turns = scaling["original_max_position_embeddings"] * plain / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    weight = ((turns - low) / (high - low)).clamp(0, 1)
    return plain * ((1 - weight) / scaling["factor"] + weight)


def rotate(x, positions, frequencies):
    """Rotary position embedding, element i with element i + K/2. x: [..., S, K], positions: [S]."""
    half = x.shape[-1] // 2
    angles = positions.to("cpu", torch.float64)[:, None] * frequencies
    cos, sin = angles.cos().to(x.device, x.dtype), angles.sin().to(x.device, x.dtype)
    left, right = x[..., :half], x[..., half:]
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


def divided(length, size):
    return (length + size - 1) // size


class Grid:
    """How a sequence is cut into groups of queries and blocks of keys, and which blocks a group may and must read."""

    def __init__(self, length, query_group, key_block, local_blocks, block_causal, device):
        self.length, self.query_group, self.key_block = length, query_group, key_block
        self.groups, self.blocks = divided(length, query_group), divided(length, key_block)
        first = torch.arange(self.groups, device=device)[:, None] * query_group  # position of the first query [N, 1]
        end = (first + query_group).clamp(max=length)
        m = torch.arange(self.blocks, device=device)[None, :]
        diagonal, diagonal_end = first // key_block, (end - 1) // key_block + 1
        self.allowed = m < diagonal_end
        self.candidates = m < (diagonal_end if block_causal else diagonal)  # blocks that have a score
        self.forced = (m >= diagonal) & (m < diagonal_end)
        if not block_causal:
            near = (m >= (diagonal - local_blocks).clamp(min=1)) & (m < diagonal)
            self.forced = self.forced | near | ((m == 0) & (diagonal > 0))
        self.first = first[:, 0]

    def to_come(self):
        """Blocks of the last group's diagonal that are still to come; they count as listed."""
        first = (self.groups - 1) * self.query_group
        last = first + self.query_group - 1
        return last // self.key_block - (min(last, self.length - 1)) // self.key_block


def pool(x, size, how):
    """[B, G, S, K] -> [B, G, ceil(S / size), K]; the last block may be short."""
    return torch.cat([how(part) for part in x.split(size, dim=2)], dim=2)


def mean(part):
    return part.mean(2, keepdim=True)


def max_min_mean(part):
    return torch.cat([part.amax(2, keepdim=True), part.amin(2, keepdim=True), mean(part)], dim=-1)


class BlockGate(nn.Module):
    """Scores of key blocks for groups of queries, from queries and keys before position embedding, and the choice."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        sparsity, heads, width = config.sparsity, config.num_attention_heads, config.head_dim
        self.is_seer = config.mechanism == "seer"
        self.width = width if self.is_seer else sparsity["gate_dim"]
        self.key = nn.Linear(3 * width, heads * self.width, bias=False)
        if not self.is_seer:
            self.query = nn.Linear(width, heads * self.width, bias=False)
        if sparsity.get("head_gate"):
            self.head_query = nn.Linear(width, heads, bias=False)
            self.head_key = nn.Linear(width, heads, bias=False)
        share = sparsity.get("dense_heads", 0.0)
        before = [math.floor(h * share + 1e-9) for h in range(heads + 1)]
        self.dense_heads = [after > least for least, after in zip(before, before[1:])]

    def projected(self, x, linear):
        """A linear map of its own for every query head; [B, G or H, N, K] -> [B, H, N, E]."""
        heads = self.config.num_attention_heads
        weight = linear.weight.view(heads, -1, linear.in_features)
        return torch.einsum("bhnk,hek->bhne", x.repeat_interleave(heads // x.shape[1], dim=1), weight)

    def scores(self, q, k, grid):
        """[B, H, N, M]"""
        pools = pool(k, grid.key_block, max_min_mean)
        blocks = torch.arange(grid.blocks)
        if self.is_seer:
            queries, unit = pool(q, grid.query_group, mean), grid.key_block
            query_positions = blocks * unit
        else:
            queries, unit = self.projected(q[:, :, ::grid.query_group], self.query), 1
            query_positions = grid.first.cpu() // grid.key_block
        # Positions that are numbers of blocks are not scaled.
        frequencies = rotary_frequencies(self.width, self.config.rope_theta, self.config.rope_scaling if self.is_seer else None)
        queries = rotate(queries, query_positions, frequencies)
        keys = rotate(self.projected(pools, self.key), blocks * unit, frequencies)
        z = queries.float() @ keys.float().transpose(-1, -2) if q.dtype != torch.float64 else queries @ keys.transpose(-1, -2)
        return z / math.sqrt(self.width)

    def chosen(self, z, grid):
        """The listed blocks of heads that are not dense, [B, H, N, M]."""
        sparsity = self.config.sparsity
        if sparsity["selection"] == "threshold":
            candidates = z.masked_fill(~grid.candidates, -math.inf)
            least = math.log(sparsity["threshold"]) if sparsity["threshold"] > 0 else -math.inf
            limit = torch.logsumexp(candidates, -1, keepdim=True) + least
            return grid.forced | (grid.candidates & (z > limit))
        given = sparsity["budgets"]
        budgets = [given[min(n, len(given) - 1)] for n in range(grid.groups)]
        budgets[-1] -= grid.to_come()
        left = torch.tensor(budgets, device=z.device) - grid.forced.sum(-1)
        free = grid.candidates & ~grid.forced
        order = z.masked_fill(~free, -math.inf).sort(dim=-1, descending=True, stable=True).indices
        rank = torch.empty_like(order).scatter_(-1, order, torch.arange(grid.blocks, device=z.device).expand_as(order).contiguous())
        return grid.forced | (free & (rank < left[:, None]))

    def head_values(self, q, k, grid):
        """How much a head counts for a group, [B, H, N]."""
        means = pool(k, grid.key_block, mean)
        finished = grid.candidates.to(k.dtype)
        known = (finished @ means) / finished.sum(-1, keepdim=True).clamp(min=1)
        queries = self.projected(q[:, :, ::grid.query_group], self.head_query)[..., 0]
        return torch.sigmoid((queries + self.projected(known, self.head_key)[..., 0]).float())

    def forward(self, q, k):
        """q [B, H, S, K], k [B, G, S, K] -> listed blocks, bias of their logits (or None), values of the heads (or None)."""
        sparsity = self.config.sparsity
        grid = Grid(q.shape[2], sparsity["query_group"], sparsity["key_block"], sparsity.get("local_blocks", 1),
                    self.is_seer, q.device)
        dense = torch.tensor(self.dense_heads, device=q.device)[:, None, None]
        z = self.scores(q, k, grid)
        lists = torch.where(dense, grid.allowed, self.chosen(z, grid))
        values = None
        if sparsity.get("head_gate"):
            values = self.head_values(q, k, grid)
            lists = lists & (dense | (values >= sparsity["head_threshold"])[..., None])
            values = torch.where(dense[..., 0], torch.ones_like(values), values)
        bias = None
        if sparsity.get("soft"):
            scored = lists & grid.candidates & ~dense
            best = z.masked_fill(~scored, -math.inf).amax(-1, keepdim=True)
            bias = torch.where(scored, z - best, torch.zeros_like(z))
        return lists, bias, values


def by_token(blocks, query_group, key_block, length):
    """[..., N, M] -> [..., S, S]"""
    return blocks.repeat_interleave(query_group, -2)[..., :length, :].repeat_interleave(key_block, -1)[..., :length]


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        width, heads, groups = config.head_dim, config.num_attention_heads, config.num_key_value_heads
        self.q_proj = nn.Linear(config.hidden_size, heads * width, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.hidden_size, groups * width, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.hidden_size, groups * width, bias=config.qkv_bias)
        self.o_proj = nn.Linear(heads * width, config.hidden_size, bias=False)
        if config.qk_norm:
            self.q_norm = RMSNorm(width, config.rms_norm_eps)
            self.k_norm = RMSNorm(width, config.rms_norm_eps)
        if config.output_gate:
            self.output_gate = nn.Linear(config.hidden_size, heads * width, bias=False)
        if config.has_gate:
            self.gate = BlockGate(config)

    def readable(self, q, k, layout):
        """Which keys each query may read [B or 1, H or 1, S, S], a bias of the logits, and the values of the heads."""
        sparsity, length = self.config.sparsity, q.shape[2]
        window, sinks = sparsity.get("window", 0), sparsity.get("sinks", 0)
        i = torch.arange(length, device=q.device)[:, None]
        j = torch.arange(length, device=q.device)[None, :]
        causal, near = j <= i, (i - j < window) | (j < sinks)
        if self.config.mechanism == "dense":
            return causal[None, None], None, None
        if self.config.mechanism == "sliding_window":
            return (causal & near)[None, None], None, None
        block, bias, values, group = sparsity["key_block"], None, None, sparsity.get("query_group", sparsity["key_block"])
        if self.config.has_layout:
            rows = divided(length, block)
            lists = layout[None, :, :rows, :rows].bool()
        else:
            lists, bias, values = self.gate(q, k)
        lists = by_token(lists, group, block, length)
        if bias is not None:
            bias = by_token(bias, group, block, length)
        if values is not None:
            values = values.repeat_interleave(group, -1)[..., :length]
        return causal & (near | lists), bias, values

    def forward(self, x, layout):
        batch, length, _ = x.shape

        def heads(y):
            return y.view(batch, length, -1, self.config.head_dim).transpose(1, 2)

        q, k, v = heads(self.q_proj(x)), heads(self.k_proj(x)), heads(self.v_proj(x))
        if self.config.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        allowed, bias, values = self.readable(q, k, layout)
        positions = torch.arange(length)
        frequencies = rotary_frequencies(self.config.head_dim, self.config.rope_theta, self.config.rope_scaling)
        q, k = rotate(q, positions, frequencies), rotate(k, positions, frequencies)
        sharing = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(sharing, dim=1), v.repeat_interleave(sharing, dim=1)
        logits = (q @ k.transpose(-1, -2)) / math.sqrt(self.config.head_dim)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if bias is not None:
            logits = logits + bias
        # A head that is skipped reads nothing and gives 0.
        weights = logits.masked_fill(~allowed, -math.inf).softmax(-1)
        weights = weights.masked_fill(~allowed, 0.0).to(v.dtype)
        y = weights @ v
        if values is not None:
            y = (values[..., None] * y).to(v.dtype)
        y = y.transpose(1, 2).reshape(batch, length, -1)
        if self.config.output_gate:
            y = y * torch.sigmoid(self.output_gate(x))
        return self.o_proj(y)


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x, layout):
        x = x + self.self_attn(self.input_layernorm(x), layout)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.block_layout = None
        if config.has_layout:
            cells = torch.zeros(config.num_attention_heads, config.layout_blocks, config.layout_blocks, dtype=torch.uint8)
            del self.block_layout
            self.register_buffer("block_layout", cells)

    def forward(self, tokens):
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, self.block_layout)
        return self.norm(x)


class FiligreeForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = FiligreeConfig
    base_model_prefix = "model"
    _tied_weights_keys = ["lm_head.weight"]

    def __init__(self, config):
        super().__init__(config)
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.model.embed_tokens

    def set_input_embeddings(self, value):
        self.model.embed_tokens = value

    def get_output_embeddings(self):
        return self.lm_head

    def set_output_embeddings(self, value):
        self.lm_head = value

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.data.normal_(mean=0.0, std=self.config.initializer_range)
            if getattr(module, "bias", None) is not None:
                module.bias.data.zero_()

    def forward(self, input_ids=None, attention_mask=None, labels=None, return_dict=None, **unused):
        """attention_mask may pad on the right only, which changes nothing: no token reads a later one."""
        if attention_mask is not None and bool((attention_mask[:, 1:] > attention_mask[:, :-1]).any()):
            raise ValueError("padding on the left would move every block; pad on the right")
        if attention_mask is not None and self.config.mechanism == "seer" and not bool(attention_mask.all()):
            raise ValueError("the gate of mechanism seer pools whole blocks of queries, padding too; give texts without it")
        if self.config.has_layout and input_ids.shape[1] > self.config.max_position_embeddings:
            raise ValueError(f"{input_ids.shape[1]} tokens; the block layout is for max_position_embeddings = "
                             f"{self.config.max_position_embeddings}")
        logits = self.lm_head(self.model(input_ids))
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100)
        return CausalLMOutput(loss=loss, logits=logits) if return_dict is not False else (logits,)

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **unused):
        if self.config.mechanism == "seer":
            raise ValueError("mechanism seer cannot generate: its gate pools whole blocks of queries")
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    @classmethod
    def with_gates(cls, folder, torch_dtype=torch.float32):
        """The sparse model of a folder that was exported with --gates-separate: the dense model's weights and its gates."""
        model = cls(FiligreeConfig.from_json_file(os.path.join(folder, "gates_config.json")))
        weights = {}
        for name in sorted(os.listdir(folder)):
            if name.endswith(".safetensors"):
                weights.update(load_file(os.path.join(folder, name)))
        if model.config.tie_word_embeddings:
            weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
        model.load_state_dict(weights)
        return model.to(torch_dtype).eval()
