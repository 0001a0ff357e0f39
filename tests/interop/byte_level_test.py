#!/usr/bin/env python3
"""Byte-level tokenizers against the tokenizers package: the same ids for any text; models that have one in and out again."""
import json
import re
import unicodedata
import unittest

import gguf
import torch
import transformers
from byte_level_models import END, FORMS, LITERAL, PADDED, SPECIAL, TRICKY, VOCABULARY, make_model, random_texts
from gguf_fields import number_of, text_of, texts_of
from interop_harness import InteropTest
from safetensors.torch import load_file

PRE = {"llama3": "llama-bpe", "qwen2": "qwen2", "gpt2": "gpt-2"}


class ByteLevel(InteropTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.prose = "".join(path.read_text() for path in sorted((cls.corpus / "text").iterdir()))
        cls.made = {}
        for form in FORMS:
            texts = [cls.prose] + TRICKY + random_texts(cls.prose, 1, 20)
            cls.made[form] = make_model(cls.corpus / form, form, texts)
            cls.prepare("convert", "--from", "huggingface", "--input", form, "--output", f"{form}_run")

    def imported(self, form):
        return (f"{form}_run", *self.made[form])

    def our_ids(self, run, text):
        (self.folder / "text.txt").write_text(text, newline="")
        self.succeed("score", "--from-run", run, "--input", "text.txt", "--output", "scores.jsonl")
        return [json.loads(row)["id"] for row in (self.folder / "scores.jsonl").read_text().split("\n")[:-1]]

    def test_ids_are_the_same(self):
        for number, form in enumerate(FORMS):
            run, tokenizer, _ = self.imported(form)
            # Each tricky text is one of its own in one form, and somewhere within the long ones in all; in these, the
            # beginnings and ends of parts lie anywhere.
            for text in TRICKY[number::len(FORMS)] + ["".join(random_texts(self.prose, seed, 300)) for seed in range(3)]:
                with self.subTest(form=form, text=text[:40]):
                    ids = self.our_ids(run, text)
                    self.assertEqual(ids, tokenizer.encode(text, add_special_tokens=False).ids)
                    normal = unicodedata.normalize("NFC", text) if form == "qwen2" else text
                    self.assertEqual(tokenizer.decode(ids), normal)

    def test_special_tokens_do_not_come_from_text(self):
        for form in FORMS:
            run, tokenizer, _ = self.imported(form)
            special = {tokenizer.token_to_id(token) for token in SPECIAL[form]}
            ids = self.our_ids(run, " ".join(SPECIAL[form]))
            self.assertFalse(special & set(ids))
            self.assertEqual(tokenizer.decode(ids), " ".join(SPECIAL[form]))

    def test_decoded_text_is_the_same(self):
        """Greedy continuations by a random model: any tokens, whose bytes need not be characters. Of bytes that are none
        tokenizers makes fewer U+FFFD."""
        for form in FORMS:
            run, tokenizer, model = self.imported(form)
            for prompt in ["The gate reads", "日本", "'"]:
                ours = self.succeed("generate", "--from-run", run, "--prompt", prompt, "--max-tokens", 64, "--greedy")
                end = tokenizer.token_to_id(END[form])
                ids = tokenizer.encode(prompt).ids  # that of Llama 3 has a token for the begin of a text
                begin = torch.tensor([ids if form == "llama3" else [end] + ids])
                with torch.no_grad():
                    ids = model.generate(begin, do_sample=False, max_new_tokens=64, synced_gpus=False, eos_token_id=end,
                                         pad_token_id=end)[0].tolist()
                theirs = tokenizer.decode([token for token in ids if token < VOCABULARY], skip_special_tokens=True)
                theirs = re.sub("\r\n?", "\n", theirs)  # as subprocess does with ours
                self.assertEqual(*(re.sub("\ufffd+", "\ufffd", text) for text in (theirs, ours[:-1])))

    def test_there_and_back(self):
        for form in FORMS:
            run, tokenizer, model = self.imported(form)
            self.assert_same_logits(run, model)
            back = self.exported(run)
            for name in ["tokenizer.json", "tokenizer_config.json"]:
                self.assertEqual((back / name).read_bytes(), (self.folder / form / name).read_bytes())
            before, after = (load_file(folder / "model.safetensors") for folder in (self.folder / form, back))
            self.assertEqual(before.keys(), after.keys())
            for key, values in before.items():
                self.assertTrue(torch.equal(values, after[key]), key)
            self.assertEqual(after["model.embed_tokens.weight"].shape[0], PADDED)
            config = json.loads((back / "config.json").read_text())
            self.assertEqual(config["eos_token_id"], tokenizer.token_to_id(END[form]))
            if form == "llama3":
                self.assertEqual(config["bos_token_id"], tokenizer.token_to_id("<|begin_of_text|>"))
            loaded = transformers.AutoTokenizer.from_pretrained(back)
            self.assertEqual(loaded.eos_token_id, config["eos_token_id"])
            self.assertEqual(loaded("The gate").input_ids, tokenizer.encode("The gate").ids)
            # The same tokenizer, by hash, so that shards of one run are those of the other.
            self.succeed("convert", "--from", "huggingface", "--input", back, "--output", f"{form}_again")
            self.assertEqual(*((self.folder / path / "tokenizer.model").read_bytes() for path in (run, f"{form}_again")))

    def test_training_goes_on_from_there(self):
        run, _, _ = self.imported("qwen2")
        self.succeed("data", "tokenize", "--input", "text", "--tokenizer", f"{run}/tokenizer.model", "--output", "theirs",
                     "--document-paragraphs", "3")
        self.succeed("train", "--config", f"{run}/config.cfg", "--train.init_from", run, "--data.path", "theirs", "--run",
                     "trained", "--train.steps", 3, "--train.batch", 2, "--model.sequence", 32, "--train.threads", 1,
                     "--schedule.warmup_steps", 1)
        back = self.exported("trained")
        self.assertEqual((back / "tokenizer.json").read_bytes(), (self.folder / "qwen2/tokenizer.json").read_bytes())
        self.assertIn("loss", self.succeed("eval", "--from-run", "trained"))

    def test_gguf(self):
        for form, name in PRE.items():
            run, tokenizer, _ = self.imported(form)
            fields = gguf.GGUFReader(self.exported(run, to="gguf")).fields
            self.assertEqual(text_of(fields["tokenizer.ggml.model"]), "gpt2")
            self.assertEqual(text_of(fields["tokenizer.ggml.pre"]), name)
            content = json.loads((self.folder / form / "tokenizer.json").read_text())
            pieces = {**content["model"]["vocab"], **{token["content"]: token["id"] for token in content["added_tokens"]}}
            tokens = texts_of(fields["tokenizer.ggml.tokens"])
            self.assertEqual(tokens[:VOCABULARY], sorted(pieces, key=pieces.get))
            self.assertEqual(tokens[VOCABULARY:], [f"[PAD{row}]" for row in range(VOCABULARY, PADDED)])
            merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in content["model"]["merges"]]
            self.assertEqual(texts_of(fields["tokenizer.ggml.merges"]), merges)
            types = [number_of(fields["tokenizer.ggml.token_type"], row) for row in range(PADDED)]
            kinds = {**dict.fromkeys(SPECIAL[form], gguf.TokenType.CONTROL),
                     **dict.fromkeys(LITERAL.get(form, []), gguf.TokenType.USER_DEFINED)}
            self.assertEqual(types[:VOCABULARY], [kinds.get(token, gguf.TokenType.NORMAL) for token in tokens[:VOCABULARY]])
            self.assertEqual(set(types[VOCABULARY:]), {gguf.TokenType.UNUSED})
            self.assertEqual(number_of(fields["tokenizer.ggml.eos_token_id"]), tokenizer.token_to_id(END[form]))

    def test_what_llama_cpp_has_no_name_for_is_refused(self):
        run, _, _ = self.imported("nemo")
        lines = self.refuse("convert", "--from-run", run, "--to", "gguf", "--output", "nemo.gguf")
        self.assertIn("has no name for the pre-tokenizer", lines[0])


if __name__ == "__main__":
    unittest.main()
