#!/usr/bin/env python3
"""Models that transformers has made: imported they compute the same, exported again they are the same."""
import json
import shutil
import unittest

import torch
import transformers
from interop_harness import SEQUENCE, InteropTest
from safetensors.torch import load_file

SIZES = {"vocab_size": 400, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": SEQUENCE, "initializer_range": 0.1}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": SEQUENCE // 4}
MODELS = {"Llama": {}, "Mistral": {"sliding_window": 24, "head_dim": 32}, "Qwen2": {"tie_word_embeddings": True}}
if hasattr(transformers, "Qwen3Config"):
    MODELS["Qwen3"] = {"head_dim": 32}


class Imports(InteropTest):
    def made(self, family, dtype=torch.float32, shard="5GB", **changes):
        """The folder of a random model; its biases are not the zeros that a new one has."""
        config = getattr(transformers, f"{family}Config")(**{**SIZES, **MODELS[family], **changes})
        model = getattr(transformers, f"{family}ForCausalLM")._from_config(config, attn_implementation="eager")
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.3 * torch.randn_like(parameter))
        folder = self.folder / f"{family}_made"
        model.to(dtype).save_pretrained(folder, max_shard_size=shard)
        shutil.copy(self.folder / "shards/tokenizer.model", folder)
        return folder, model

    def weights(self, folder):
        tensors = {}
        for file in folder.glob("*.safetensors"):
            tensors.update(load_file(file))
        return tensors

    def test_there_and_back(self):
        for family in MODELS:
            with self.subTest(family):
                folder, model = self.made(family)
                run = f"{family}_run"
                self.succeed("convert", "--from", "huggingface", "--input", folder, "--output", run)
                self.assert_same_logits(run, model)
                back = self.exported(run)
                self.assertEqual(self.weights(folder).keys(), self.weights(back).keys())
                for name, values in self.weights(folder).items():
                    self.assertTrue(torch.equal(values, self.weights(back)[name]), name)
                before, after = (json.loads((path / "config.json").read_text()) for path in (folder, back))
                for key in ["architectures", "model_type", "rope_theta", "rms_norm_eps", "tie_word_embeddings", *SIZES]:
                    self.assertEqual(before[key], after[key], key)

    def test_scaled_positions(self):
        for family, scaling in [("Llama", LLAMA3), ("Llama", {"rope_type": "linear", "factor": 4.0}),
                                ("Qwen2", {"rope_type": "linear", "factor": 2.0})]:
            with self.subTest(family, **scaling):
                folder, model = self.made(family, rope_scaling=scaling, rope_theta=500.0)
                run = f"{family}_{scaling['rope_type']}"
                self.succeed("convert", "--from", "huggingface", "--input", folder, "--output", run)
                self.assert_same_logits(run, model)
                plain = self.made(family, rope_theta=500.0)[1]
                plain.load_state_dict(model.state_dict())
                ours, ids = self.our_logits(run)
                self.assertGreater((self.logits(plain, ids) - ours).abs().max().item(), 1e-2)
                back = json.loads((self.exported(run) / "config.json").read_text())["rope_scaling"]
                self.assertEqual({key: back[key] for key in scaling}, scaling)

    def test_half_precision_and_shards_come_back_bit_for_bit(self):
        for name, dtype in [("bf16", torch.bfloat16), ("f16", torch.float16)]:
            folder, _ = self.made("Llama", dtype=dtype, shard="40KB")
            self.assertGreater(len(list(folder.glob("*.safetensors"))), 2)
            self.succeed("convert", "--from", "huggingface", "--input", folder, "--output", name)
            back = self.weights(self.exported(name, "--dtype", name))
            for key, values in self.weights(folder).items():
                self.assertTrue(torch.equal(values, back[key]), key)
            shutil.rmtree(folder)


if __name__ == "__main__":
    unittest.main()
