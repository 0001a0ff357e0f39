"""Configuration of a model that Filigree has trained and exported."""
from transformers import PretrainedConfig


class FiligreeConfig(PretrainedConfig):
    """A Llama-style decoder whose attention may read chosen blocks only.

    qkv_bias, qk_norm, output_gate: what attention has beyond Llama's.
    mechanism: which blocks are read: dense, sliding_window, adaptive, seer, or a fixed layout (deepspeed_*, s2_*).
    sparsity: what the mechanism is told: window, sinks, key_block, query_group, ...
    """

    model_type = "filigree"

    def __init__(self, vocab_size=32000, hidden_size=256, intermediate_size=704, num_hidden_layers=6,
                 num_attention_heads=4, num_key_value_heads=None, head_dim=None, hidden_act="silu",
                 max_position_embeddings=1024, rms_norm_eps=1e-5, rope_theta=10000.0, rope_scaling=None, qkv_bias=False,
                 qk_norm=False, output_gate=False, mechanism="dense", sparsity=None, initializer_range=0.02, use_cache=False,
                 tie_word_embeddings=False, **kwargs):
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads or num_attention_heads
        self.head_dim = head_dim or hidden_size // num_attention_heads
        self.hidden_act = hidden_act
        self.max_position_embeddings = max_position_embeddings
        self.rms_norm_eps = rms_norm_eps
        self.rope_theta = rope_theta
        self.rope_scaling = rope_scaling
        self.qkv_bias = qkv_bias
        self.qk_norm = qk_norm
        self.output_gate = output_gate
        self.mechanism = mechanism
        self.sparsity = sparsity or {}
        self.initializer_range = initializer_range
        self.use_cache = use_cache
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)

    @property
    def has_gate(self):
        return self.mechanism in ("adaptive", "seer")

    @property
    def has_layout(self):
        return self.mechanism.startswith(("deepspeed_", "s2_"))

    @property
    def layout_blocks(self):
        block = self.sparsity["key_block"]
        return (self.max_position_embeddings + block - 1) // block
