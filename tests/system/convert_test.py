#!/usr/bin/env python3
"""A Hugging Face model in, gates distilled on it, and out again; and folders that are not taken. Compared with transformers
itself by tests/interop."""
import json
import random
import shutil
import struct
import unittest

from harness import ModelTest, training

WIDTH, HEADS, GROUPS, HEAD, FEED_FORWARD, LAYERS, VOCABULARY = 32, 4, 2, 8, 48, 2, 400
CONFIG = {"model_type": "llama", "vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": FEED_FORWARD,
          "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": GROUPS,
          "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False}


def shapes():
    result = {"model.embed_tokens.weight": [VOCABULARY, WIDTH], "lm_head.weight": [VOCABULARY, WIDTH],
              "model.norm.weight": [WIDTH]}
    for layer in range(LAYERS):
        of_layer = {"input_layernorm": [WIDTH], "post_attention_layernorm": [WIDTH],
                    "self_attn.q_proj": [HEADS * HEAD, WIDTH], "self_attn.k_proj": [GROUPS * HEAD, WIDTH],
                    "self_attn.v_proj": [GROUPS * HEAD, WIDTH], "self_attn.o_proj": [WIDTH, HEADS * HEAD],
                    "mlp.gate_proj": [FEED_FORWARD, WIDTH], "mlp.up_proj": [FEED_FORWARD, WIDTH],
                    "mlp.down_proj": [WIDTH, FEED_FORWARD]}
        result.update({f"model.layers.{layer}.{name}.weight": shape for name, shape in of_layer.items()})
    return result


def random_values(draw, shape):
    count = shape[0] * (shape[1] if len(shape) > 1 else 1)
    middle, spread = (0, 0.15) if len(shape) > 1 else (1, 0.1)
    return struct.pack(f"<{count}f", *(draw.gauss(middle, spread) for _ in range(count)))


def write_safetensors(file, tensors):
    """tensors: name -> (shape, bytes of f32)"""
    header, offset = {}, 0
    for name, (shape, values) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + len(values)]}
        offset += len(values)
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(values for _, values in tensors.values()))


def read_safetensors(file):
    content = file.read_bytes()
    begin = 8 + struct.unpack_from("<Q", content)[0]
    header = json.loads(content[8:begin])
    header.pop("__metadata__", None)
    return {name: (entry["shape"], content[begin + entry["data_offsets"][0]:begin + entry["data_offsets"][1]])
            for name, entry in header.items()}


def byte_level_tokenizer(**model):
    """A tokenizer.json of 256 bytes (the names are GPT-2's), a merge and two special tokens: less than VOCABULARY."""
    prints = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    names = [chr(byte) for byte in prints] + [chr(0x100 + number) for number in range(256 - len(prints))]
    pieces = {name: number for number, name in enumerate([*names, "Th"])}
    special = [{"id": len(pieces) + number, "content": content, "special": True}
               for number, content in enumerate(["<|end|>", "<|begin|>"])]
    return {"version": "1.0", "added_tokens": special, "normalizer": None, "decoder": {"type": "ByteLevel"},
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
            "model": {"type": "BPE", "vocab": pieces, "merges": ["T h"], **model}}


class Conversion(ModelTest):
    def setUp(self):
        super().setUp()
        draw = random.Random(11)
        self.model = self.folder / "model"
        self.model.mkdir()
        self.tensors = {name: (shape, random_values(draw, shape)) for name, shape in shapes().items()}
        write_safetensors(self.model / "model.safetensors", self.tensors)
        (self.model / "config.json").write_text(json.dumps(CONFIG))
        shutil.copy(self.folder / "shards/tokenizer.model", self.model)

    def import_model(self, *options):
        return self.succeed("convert", "--from", "huggingface", "--input", "model", "--output", "imported", *options)

    def export(self, run, output, *options):
        self.succeed("convert", "--from-run", run, "--to", "huggingface", "--output", output, "--verify", *options)
        return read_safetensors(self.folder / output / "model.safetensors")

    def test_gates_are_distilled_on_an_imported_model(self):
        """Trained on two tensor ranks; the model's own weights keep their bits all the way."""
        self.import_model()
        self.succeed("train", "--config", "imported/config.cfg", "--run", "gated", "--data.path", "shards",
                     "--train.init_from", "imported", "--train.only", "gates", "--model.mechanism", "adaptive",
                     "--sparsity.key_block", "16", "--sparsity.query_group", "16", "--sparsity.learn", "distill",
                     "--train.steps", "20", "--train.batch", "4", "--train.log_every", "1", "--train.threads", "1",
                     "--schedule.warmup_steps", "2", "--optimizer.learning_rate", "0.02", "--parallel.tensor", "2", ranks=2)
        steps = [line for line in self.metrics("gated") if line["kind"] == "step"]
        self.assertEqual([line["step"] for line in steps], list(range(1, 21)))
        exported = self.export("gated", "out")
        gates = {name: values for name, values in exported.items() if ".gate." in name}
        self.assertEqual(sorted(gates), sorted(f"model.layers.{layer}.self_attn.gate.{part}.weight"
                                               for layer in range(LAYERS) for part in ("key", "query")))
        self.assertEqual({name: values for name, values in exported.items() if name not in gates}, self.tensors)
        config = json.loads((self.folder / "out/config.json").read_text())
        self.assertEqual(config["architectures"], ["FiligreeForCausalLM"])
        for file in config["auto_map"].values():
            self.assertTrue((self.folder / "out" / f"{file.split('.')[0]}.py").exists())

        dense = self.export("gated", "apart", "--gates-separate")
        self.assertEqual(dense, self.tensors)
        self.assertEqual(read_safetensors(self.folder / "apart/gates.safetensors"), gates)

    def test_there_and_back_is_the_same_and_can_be_used(self):
        self.import_model("--sequence", "32")
        self.assertEqual(self.export("imported", "out"), self.tensors)
        config = json.loads((self.folder / "out/config.json").read_text())
        self.assertEqual({key: config[key] for key in CONFIG}, {**CONFIG, "max_position_embeddings": 32})
        self.assertIn("loss", json.loads(self.succeed("eval", "--from-run", "imported", "--data", "shards", "--json")))
        self.succeed("generate", "--from-run", "imported", "--prompt", "The", "--max-tokens", "3", "--greedy")
        self.succeed("convert", "--from-run", "imported", "--to", "gguf", "--output", "model.gguf", "--verify")
        self.assertEqual((self.folder / "model.gguf").read_bytes()[:8], b"GGUF\3\0\0\0")

    def give_byte_level_tokenizer(self, content):
        (self.model / "tokenizer.model").unlink(missing_ok=True)
        (self.model / "tokenizer.json").write_text(json.dumps(content, indent=2))
        (self.model / "tokenizer_config.json").write_text('{"eos_token": "<|end|>",\n  "bos_token": "<|begin|>"}')

    def test_a_byte_level_tokenizer_stays_as_it_is(self):
        self.give_byte_level_tokenizer(byte_level_tokenizer())
        self.import_model()
        self.assertEqual(self.export("imported", "out"), self.tensors)
        for name in ["tokenizer.json", "tokenizer_config.json"]:
            self.assertEqual((self.folder / "out" / name).read_bytes(), (self.model / name).read_bytes())
        config = json.loads((self.folder / "out/config.json").read_text())
        self.assertEqual((config["vocab_size"], config["eos_token_id"], config["bos_token_id"]), (VOCABULARY, 257, 258))
        self.succeed("generate", "--from-run", "imported", "--prompt", "The <|end|>", "--max-tokens", "3", "--greedy")
        self.succeed("convert", "--from-run", "imported", "--to", "gguf", "--output", "model.gguf", "--verify")
        self.succeed("data", "tokenize", "--tokenizer", "model/tokenizer.json", "--input", "text", "--output", "theirs",
                     "--document-paragraphs", "3")
        self.assertEqual(*((self.folder / path / "tokenizer.model").read_bytes() for path in ("imported", "theirs")))
        self.succeed("eval", "--from-run", "imported", "--data", "theirs")

    def test_tokenizers_that_are_not_taken(self):
        good = byte_level_tokenizer()
        for content, words in [(byte_level_tokenizer(byte_fallback=True), ["model.byte_fallback"]),
                               (byte_level_tokenizer(type="Unigram"), ["model.type", "Unigram"]),
                               ({**good, "normalizer": {"type": "NFKC"}}, ["normalizer.type", "NFKC"]),
                               ({**good, "pre_tokenizer": {"type": "Metaspace"}}, ["pre_tokenizer.type", "Metaspace"]),
                               ({**good, "decoder": {"type": "WordPiece"}}, ["decoder.type", "WordPiece"]),
                               (byte_level_tokenizer(merges=["T x"]), ["model.merges[0]", "Tx"])]:
            self.give_byte_level_tokenizer(content)
            self.refused("model/tokenizer.json", "allowed", *words)

    def test_it_is_not_resumed_but_started_from(self):
        self.import_model()
        for more in [], ["--data.path", "shards"]:
            lines = self.refuse("train", "--resume", "imported", *more)
            self.assertEqual(len(lines), 1, lines)
            self.assertIn("--train.init_from imported", lines[0])

    def refused(self, *words):
        """The import is refused with these words, and leaves nothing behind."""
        before = sorted(path.name for path in self.folder.iterdir())
        lines = self.refuse("convert", "--from", "huggingface", "--input", "model", "--output", "imported")
        self.assertEqual(len(lines), 1, lines)
        for word in words:
            self.assertIn(word, lines[0])
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), before)

    def test_what_is_not_taken(self):
        file = self.model / "model.safetensors"
        content = file.read_bytes()
        file.write_bytes(content[:-100])
        self.refused("model.safetensors", "the file holds")
        file.write_bytes(struct.pack("<Q", 1 << 60) + content[8:])
        self.refused("model.safetensors", "cut short or no safetensors file")
        write_safetensors(file, {name: values for name, values in self.tensors.items() if name != "model.norm.weight"})
        self.refused("no tensor 'model.norm.weight'")
        shape, values = self.tensors["model.norm.weight"]
        write_safetensors(file, {**self.tensors, "model.norm.weight": (shape + [1], values)})
        self.refused("'model.norm.weight' has shape [32, 1]")
        write_safetensors(file, {**self.tensors, "model.norm.bias": (shape, values)})
        self.refused("'model.norm.bias'", "not part of the model")
        file.write_bytes(content)
        (self.model / "config.json").write_text(json.dumps({**CONFIG, "rope_scaling": {"rope_type": "yarn", "factor": 4}}))
        self.refused("rope_scaling", "not supported")
        (self.model / "config.json").write_text("{")
        self.refused("config.json")
        (self.model / "config.json").write_text(json.dumps(CONFIG))
        (self.model / "tokenizer.model").unlink()
        self.refused("tokenizer.model", "tokenizer.json", "--tokenizer")

    def test_what_exists_is_replaced_only_on_request(self):
        self.import_model()
        self.assertIn("--overwrite", self.refuse("convert", "--from", "huggingface", "--input", "model", "--output",
                                                 "imported")[0])
        self.import_model("--overwrite")
        self.export("imported", "out")
        self.assertIn("--overwrite", self.refuse("convert", "--from-run", "imported", "--to", "huggingface", "--output",
                                                 "out")[0])
        self.assertEqual(self.export("imported", "out", "--overwrite"), self.tensors)
        self.succeed("convert", "--from-run", "imported", "--to", "gguf", "--output", "model.gguf")
        self.succeed("convert", "--from-run", "imported", "--to", "gguf", "--output", "model.gguf", "--overwrite")

    def test_what_no_conversion_has_made_is_not_replaced(self):
        self.import_model()
        self.succeed(*training("trained", 2, **{"train.batch": 4}))
        kept = {path: path.read_bytes() for run in ("model", "trained", "shards")
                for path in (self.folder / run).rglob("*") if path.is_file()}
        export = ["convert", "--from-run", "imported", "--overwrite"]
        for folder in ["model", "trained", "shards"]:
            self.assertIn("has no filigree_export.json",
                          self.refuse(*export, "--to", "huggingface", "--output", folder)[0])
        for folder in ["trained", "shards"]:
            self.assertIn("has no filigree_import.json", self.refuse(
                "convert", "--from", "huggingface", "--input", "model", "--output", folder, "--overwrite")[0])
        self.assertIn("this is none", self.refuse(*export, "--to", "gguf", "--output", "trained/config.cfg")[0])
        for folder in ["trained", "absent/"]:
            self.assertIn("it is a folder", self.refuse(*export, "--to", "gguf", "--output", folder)[0])
        self.assertEqual({path: path.read_bytes() for path in kept}, kept)
        self.assertFalse((self.folder / "absent").exists())

    def test_values_that_a_type_cannot_hold_are_named(self):
        name = "model.norm.weight"
        shape, values = self.tensors[name]
        write_safetensors(self.model / "model.safetensors",
                          {**self.tensors, name: (shape, struct.pack("<f", 1e5) + values[4:])})
        self.import_model()
        lines = self.refuse("convert", "--from-run", "imported", "--to", "huggingface", "--output", "out", "--dtype", "f16")
        self.assertIn("parameter norm.weight: the value 100000 is too large for f16", lines[0])
        self.succeed("convert", "--from-run", "imported", "--to", "huggingface", "--output", "out", "--dtype", "bf16")

    def test_descriptions_that_no_run_can_have_are_refused(self):
        for changes, words in [({"rms_norm_eps": 2.0}, ["model.norm_eps = 2"]),
                               ({"rope_parameters": {"rope_type": "default", "rope_theta": -1}}, ["rope_theta"]),
                               ({"rope_theta": "10000"}, ["rope_theta"]),
                               ({"vocab_size": 100}, ["vocab_size = 100", "the tokenizer has"])]:
            (self.model / "config.json").write_text(json.dumps({**CONFIG, **changes}))
            self.refused(*words)

    def test_options_of_the_other_direction_are_refused(self):
        self.assertIn("--dtype does not go with --from", self.refuse(
            "convert", "--from", "huggingface", "--input", "model", "--output", "imported", "--dtype", "bf16")[0])
        self.assertIn("--from-run", self.refuse("convert", "--output", "x")[0])
        self.import_model()
        self.assertIn("has no gates", self.refuse(
            "convert", "--from-run", "imported", "--to", "huggingface", "--output", "x", "--gates-separate")[0])


if __name__ == "__main__":
    unittest.main()
