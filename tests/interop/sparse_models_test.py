#!/usr/bin/env python3
"""Sparse models trained here under the bundled modelling file: the same logits, from the same blocks."""
import unittest

import torch
from interop_harness import InteropTest
from transformers.dynamic_module_utils import get_class_from_dynamic_module

BLOCKS = {"sparsity__key_block": 16, "sparsity__query_group": 16}


class SparseModels(InteropTest):
    def check(self, run, mechanism, generates=True, **changes):
        self.trained(run, model__mechanism=mechanism, **{**BLOCKS, **changes})
        folder = self.exported(run)
        model = self.load(folder, trust_remote_code=True)
        self.assertEqual(type(model).__name__, "FiligreeForCausalLM")
        self.assert_same_logits(run, model)
        if generates:
            self.assert_same_continuation(run, folder, model)
        return model

    def assert_blocks_matter(self, run, model):
        """Reading everything instead of what is listed changes logits by ten times the tolerance and more, so that
        agreement says that the blocks are the same."""
        ours, ids = self.our_logits(run)
        for layer in model.model.layers:
            layer.self_attn.config.mechanism = "dense"
        self.assertGreater((self.logits(model, ids) - ours).abs().max().item(), 1e-3)

    def test_adaptive_by_density(self):
        self.assert_blocks_matter("run", self.check("run", "adaptive", sparsity__density=0.3))

    def test_adaptive_by_threshold_with_a_window(self):
        model = self.check("run", "adaptive", sparsity__selection="threshold", sparsity__threshold=0.2,
                           sparsity__window=8, sparsity__sinks=2)
        self.assert_blocks_matter("run", model)

    def test_adaptive_by_count_with_other_groups_and_widths(self):
        model = self.check("run", "adaptive", sparsity__selection="top_k", sparsity__top_k=3, sparsity__query_group=8,
                           sparsity__gate_dim=8, sparsity__local_blocks=2, sparsity__dense_heads=0)
        self.assert_blocks_matter("run", model)

    def test_adaptive_with_head_gates(self):
        self.check("run", "adaptive", sparsity__head_gate="true", sparsity__head_threshold=0.5, sparsity__density=0.4)

    def test_adaptive_that_is_distilled_only(self):
        self.check("run", "adaptive", sparsity__learn="distill", sparsity__density=0.3)

    def test_scaled_positions(self):
        scaled = {"model__rope_scaling": "llama3", "model__rope_factor": 8, "model__rope_theta": 500,
                  "model__rope_original_sequence": 32, "sparsity__density": 0.3}
        self.check("adaptive", "adaptive", **scaled)
        self.check("seer", "seer", generates=False, **scaled)

    def test_seer(self):
        model = self.check("run", "seer", generates=False, sparsity__density=0.3)
        with self.assertRaisesRegex(ValueError, "cannot generate"):
            model.generate(torch.tensor([[1, 2]]), max_new_tokens=1, synced_gpus=False)
        with self.assertRaisesRegex(ValueError, "without it"):
            model(torch.tensor([[1, 2]]), attention_mask=torch.tensor([[1, 0]]))
        self.assert_blocks_matter("run", model)

    def test_fixed_layouts(self):
        for mechanism, local_blocks in [("deepspeed_fixed", 3), ("deepspeed_bigbird", 1), ("s2_strided", 1)]:
            with self.subTest(mechanism):
                model = self.check(mechanism, mechanism, sparsity__local_blocks=local_blocks, sparsity__stride_blocks=3)
                self.assert_blocks_matter(mechanism, model)

    def test_a_window_with_sinks_and_an_output_gate(self):
        self.check("run", "sliding_window", sparsity__window=20, sparsity__sinks=4, model__output_gate="true",
                   model__qk_norm="true", model__qkv_bias="true")

    def test_gates_apart_join_the_dense_model(self):
        """The dense model is a stock Llama; with its gates it computes what the whole export computes."""
        self.trained("run", model__mechanism="adaptive", sparsity__density=0.3, **BLOCKS)
        folder = self.exported("run", "--gates-separate")
        self.assertEqual(type(self.load(folder)).__name__, "LlamaForCausalLM")
        bundled = get_class_from_dynamic_module("modeling_filigree.FiligreeForCausalLM", folder)
        self.assert_same_logits("run", bundled.with_gates(folder))

    def test_bf16_rounds_and_no_more(self):
        self.trained("run", model__mechanism="adaptive", sparsity__density=1, **BLOCKS)
        model = self.load(self.exported("run", "--dtype", "bf16"), trust_remote_code=True, torch_dtype=torch.float32)
        self.assert_same_logits("run", model, tolerance=0.1)


if __name__ == "__main__":
    unittest.main()
