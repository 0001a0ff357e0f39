#!/usr/bin/env python3
"""GGUF files under the gguf package's reader, and as transformers takes them back."""
import unittest

import gguf
import numpy
import torch
import transformers
from gguf_fields import number_of, text_of, texts_of
from interop_harness import SEQUENCE, InteropTest
from safetensors.torch import load_file


class GgufFiles(InteropTest):
    def read(self, file):
        reader = gguf.GGUFReader(file)
        return reader.fields, {tensor.name: tensor for tensor in reader.tensors}

    def test_metadata_and_tokenizer(self):
        self.trained("run", steps=2, model__norm_eps=2e-5, model__rope_theta=5000)
        file = self.exported("run", to="gguf")
        fields, _ = self.read(file)
        self.assertEqual(text_of(fields["general.architecture"]), "llama")
        expected = {"vocab_size": 400, "context_length": SEQUENCE, "embedding_length": 64, "block_count": 2,
                    "attention.head_count": 4, "attention.head_count_kv": 2, "attention.key_length": 16,
                    "rope.dimension_count": 16, "rope.freq_base": 5000}
        for key, value in expected.items():
            self.assertEqual(number_of(fields[f"llama.{key}"]), value, key)
        self.assertAlmostEqual(number_of(fields["llama.attention.layer_norm_rms_epsilon"]), 2e-5, delta=1e-9)
        pieces = texts_of(fields["tokenizer.ggml.tokens"])
        tokenizer = transformers.AutoTokenizer.from_pretrained(self.exported("run"))
        self.assertEqual(pieces, tokenizer.convert_ids_to_tokens(range(400)))
        self.assertEqual(number_of(fields["tokenizer.ggml.bos_token_id"]), tokenizer.bos_token_id)
        self.assertEqual(len(fields["tokenizer.ggml.scores"].data), 400)
        self.assertEqual(len(fields["tokenizer.ggml.token_type"].data), 400)

    def test_values_of_every_type(self):
        """Against the safetensors export; rows of queries and keys as llama.cpp's own converter permutes them."""
        self.trained("run", steps=2)
        weights = load_file(self.exported("run") / "model.safetensors")
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)

        def permuted(values, heads):
            rows, columns = values.shape
            return values.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)

        for dtype, torch_dtype, kind in [("f32", torch.float32, "F32"), ("f16", torch.float16, "F16"),
                                         ("bf16", torch.bfloat16, "BF16")]:
            _, tensors = self.read(self.exported("run", "--dtype", dtype, "--overwrite", to="gguf"))
            self.assertEqual(len(tensors), len(weights))
            for name, values in weights.items():
                tensor = tensors[names.get_name(name, try_suffixes=(".weight",))]
                if ".q_proj." in name or ".k_proj." in name:
                    values = permuted(values, 4 if ".q_proj." in name else 2)
                wanted = values if values.dim() == 1 else values.to(torch_dtype)
                self.assertEqual(tensor.tensor_type.name, "F32" if values.dim() == 1 else kind, name)
                self.assertEqual(list(tensor.shape), list(reversed(values.shape)), name)
                bits = wanted.contiguous().view(torch.int16) if wanted.element_size() == 2 else wanted
                found = numpy.frombuffer(tensor.data.tobytes(), dtype=bits.numpy().dtype).reshape(bits.shape)
                self.assertTrue(numpy.array_equal(found, bits.numpy()), name)

    def test_transformers_takes_them_back(self):
        """Its own reader undoes the permutation: the logits are ours again. It does not tie embeddings, as llama.cpp does."""
        for run, changes in [("llama", {}), ("qwen2", {"model__qkv_bias": "true"})]:
            with self.subTest(run):
                self.trained(run, model__tied_embeddings="false", **changes)
                file = self.exported(run, to="gguf")
                model = self.load(self.folder, gguf_file=file.name)
                self.assert_same_logits(run, model)

    def test_what_is_not_dense_is_refused(self):
        self.trained("run", steps=2, model__mechanism="seer", sparsity__key_block=16)
        lines = self.refuse("convert", "--from-run", "run", "--to", "gguf", "--output", "run.gguf")
        self.assertIn("model.mechanism = seer", lines[0])
        self.assertFalse((self.folder / "run.gguf").exists())


if __name__ == "__main__":
    unittest.main()
