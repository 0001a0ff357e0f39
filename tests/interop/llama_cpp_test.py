#!/usr/bin/env python3
"""GGUF files under llama.cpp, another implementation of all that a dense model computes: tokens, logits, continuations.
Skipped without llama-cpp-python, which is compiled where it is installed: minutes that not every run of the tests has."""
import importlib.util
import json
import sys
import unicodedata
import unittest

if importlib.util.find_spec("llama_cpp") is None:
    print("skipped: needs llama-cpp-python (conversion/README.md)")
    sys.exit(77)

import llama_cpp  # noqa: E402
import torch  # noqa: E402
from byte_level_models import TRICKY, make_model  # noqa: E402
from interop_harness import SEQUENCE, InteropTest  # noqa: E402

MODELS = {
    "llama": {"model__rope_theta": 5000, "model__norm_eps": 2e-5},
    "untied": {"model__tied_embeddings": "false", "model__kv_heads": 4},
    "qwen2": {"model__qkv_bias": "true"},
    "stretched": {"model__rope_scaling": "linear", "model__rope_factor": 2},
    "llama3": {"model__rope_scaling": "llama3", "model__rope_factor": 8, "model__rope_theta": 500,
               "model__rope_original_sequence": 32},
    "qwen3": {"model__qk_norm": "true"},
}
TEXTS = ["The gate reads", "  two  spaces  ", "a\nb\n\nc\t", "naïve café — Übergröße", "日本語のテキスト", "🙂👩‍👩‍👧 z̃",
         "s> is not </s", "0123456789" * 5, "def f(x):\n    return x ** 2\n"]


class LlamaCpp(InteropTest):
    def taken(self, run):
        """llama.cpp with the run's weights, keys and values in f32."""
        return llama_cpp.Llama(str(self.exported(run, "--dtype", "f32", to="gguf")), n_ctx=SEQUENCE, logits_all=True,
                               type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32, flash_attn=False,
                               n_threads=2, verbose=False)

    def test_logits_and_greedy_continuation(self):
        for run, changes in MODELS.items():
            with self.subTest(run):
                self.trained(run, **changes)
                model = self.taken(run)
                logits, ids = self.our_logits(run)
                model.eval(ids.tolist())
                theirs = torch.from_numpy(model.scores[:len(ids)].copy())
                self.assertGreater(logits.std().item(), 0.3)
                self.assertLess((theirs - logits).abs().max().item(), 1e-4)

                prompt = "The gate reads"
                ours = self.succeed("generate", "--from-run", run, "--prompt", prompt, "--max-tokens", 64, "--greedy")
                begin = model.tokenize(prompt.encode(), add_bos=True, special=False)
                model.reset()
                continuation = []
                for token in model.generate(begin, temp=0.0, repeat_penalty=1.0):
                    continuation.append(token)
                    if len(continuation) == 64:
                        break
                self.assertEqual(prompt + model.detokenize(continuation, prev_tokens=begin).decode(), ours[:-1])
                model.close()

    def assert_same_ids(self, run, model, text):
        (self.folder / "text.txt").write_text(text)
        self.succeed("score", "--from-run", run, "--input", "text.txt", "--output", "scores.jsonl")
        ours = [json.loads(row)["id"] for row in (self.folder / "scores.jsonl").read_text().splitlines()]
        theirs = model.tokenize(text.encode(), add_bos=False, special=False)
        self.assertEqual(theirs, ours, repr(text))
        self.assertEqual(model.detokenize(ours, prev_tokens=[model.token_bos()]).decode(), text)

    def test_ids_are_the_same(self):
        self.trained("run", steps=2)
        model = self.taken("run")
        for text in TEXTS:
            self.assert_same_ids("run", model, text)
        self.assertEqual(model.tokenize(b"a", add_bos=True)[0], model.token_bos())
        model.close()

    def test_ids_of_byte_level_tokenizers_are_the_same(self):
        """It does not compose characters as Qwen2's does (NFC), and knows no long s among contractions."""
        prose = "".join(path.read_text() for path in sorted((self.folder / "text").iterdir()))
        for form in ["llama3", "qwen2", "gpt2"]:
            with self.subTest(form):
                make_model(self.folder / form, form, [prose] + TRICKY)
                run = f"{form}_run"
                self.succeed("convert", "--from", "huggingface", "--input", form, "--output", run)
                model = self.taken(run)
                for text in TEXTS + [prose[:5000]] + [" ".join(TRICKY[:10]), " I'm we'LL they'Ve 'S ''s don'"]:
                    if unicodedata.is_normalized("NFC", text):
                        self.assert_same_ids(run, model, text)
                model.close()


if __name__ == "__main__":
    unittest.main()
