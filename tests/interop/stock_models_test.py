#!/usr/bin/env python3
"""Models trained here that a stock class of transformers computes: exported, loaded, compared."""
import json
import unittest

import torch
import transformers
from interop_harness import InteropTest
from safetensors.torch import load_file


class StockModels(InteropTest):
    def check(self, run, expected, **changes):
        self.trained(run, **changes)
        folder = self.exported(run)
        model = self.load(folder)
        self.assertEqual(type(model).__name__, expected)
        self.assertFalse((folder / "modeling_filigree.py").exists())
        self.assert_same_logits(run, model)
        self.assert_same_continuation(run, folder, model)

    def test_dense_is_a_llama(self):
        self.check("dense", "LlamaForCausalLM")

    def test_untied_wide_heads_and_another_theta(self):
        self.check("wide", "LlamaForCausalLM", model__tied_embeddings="false", model__head_dim=32, model__kv_heads=1,
                   model__rope_theta=500)

    def test_biases_are_those_of_qwen2(self):
        self.check("biased", "Qwen2ForCausalLM", model__qkv_bias="true")

    def test_a_window_is_a_mistral(self):
        self.check("window", "MistralForCausalLM", model__mechanism="sliding_window", sparsity__window=20,
                   sparsity__key_block=16)

    def test_sigma_reparam_is_folded_into_a_llama(self):
        self.check("sigma", "LlamaForCausalLM", model__sigma_reparam="all")

    @unittest.skipUnless(hasattr(transformers, "Qwen3ForCausalLM"), "this transformers has no Qwen3 (4.51 has)")
    def test_norms_of_heads_are_those_of_qwen3(self):
        self.check("normed", "Qwen3ForCausalLM", model__qk_norm="true")

    def test_types_and_shards(self):
        """A bf16 and an f16 export hold the rounded values; shards are loaded as one."""
        self.trained("run", steps=2)
        whole = load_file(self.exported("run") / "model.safetensors")
        for name, dtype in [("bf16", torch.bfloat16), ("f16", torch.float16)]:
            folder = self.exported("run", "--dtype", name, "--max-shard-size", "20KB", "--overwrite")
            index = json.loads((folder / "model.safetensors.index.json").read_text())
            self.assertGreater(len(set(index["weight_map"].values())), 3)
            model = self.load(folder, torch_dtype="auto")
            self.assertEqual(model.dtype, dtype)
            state = model.state_dict()
            for key, values in whole.items():
                self.assertTrue(torch.equal(state[key], values.to(dtype)), key)


if __name__ == "__main__":
    unittest.main()
