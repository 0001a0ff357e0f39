#!/usr/bin/env python3
"""Wrong input: exit code 2, one line for each problem, and nothing left behind that is in the way of the next attempt."""
import json
import shutil
import unittest

from harness import ModelTest, training


class BadInput(ModelTest):
    def refuse_once(self, pattern, *arguments, **options):
        """Exactly one error line, which matches."""
        lines = self.refuse(*arguments, **options)
        self.assertEqual(len(lines), 1, lines)
        self.assertRegex(lines[0], pattern)

    def refuse_training(self, pattern, ranks=0, **changes):
        """Refused before the run folder is made."""
        self.refuse_once(pattern, *training("new", 2, **changes), ranks=ranks)
        self.assertFalse((self.folder / "new").exists(), changes)

    def shard(self):
        return self.folder / "shards/train_00000.h5"

    def flip(self, file, offset):
        data = bytearray(file.read_bytes())
        data[offset] ^= 4
        file.write_bytes(data)


class Options(BadInput):
    def test_options(self):
        self.refuse_training(r"unknown option --train.bacth; did you mean --train.batch\?", train__bacth=3)
        self.refuse_training(r"--train.batch 0: must be a whole number of at least 1", train__batch=0)
        self.refuse_training(r"--schedule.kind cosin: .*did you mean 'cosine'\?", schedule__kind="cosin")

    def test_every_problem_has_a_line(self):
        lines = self.refuse(*training("new", 2, train__batch="x", optimizer__beta1=2, model__layer=1))
        self.assertEqual(len(lines), 3, lines)

    def test_heads_that_do_not_divide(self):
        self.refuse_training(r"model.width = 32.* model.heads = 5", model__heads=5)
        self.refuse_training(r"model.kv_heads = 3.* model.heads = 4", model__heads=4, model__kv_heads=3)
        self.refuse_training(r"model.heads = 3 .*parallel.tensor = 2", ranks=2, model__heads=3, model__head_dim=8,
                             parallel__tensor=2)
        self.refuse_training(r"model.kv_heads = 3 .*parallel.tensor = 4", ranks=4, model__heads=12, model__head_dim=4,
                             model__kv_heads=3, parallel__tensor=4)

    def test_sparsity_that_cannot_be(self):
        self.refuse_training(r"--sparsity.density 0: ", sparsity__density=0)
        self.refuse_training(r"--sparsity.threshold 1.5: ", sparsity__threshold=1.5)
        self.refuse_training(r"--sparsity.dense_heads 1.2: ", sparsity__dense_heads=1.2)
        self.refuse_training(r"sparsity.key_block = 64: is longer than model.sequence = 32", model__mechanism="adaptive")
        learns = r"sparsity.learn = end_to_end: allowed for model.mechanism = {}: {}$"
        self.refuse_training(learns.format("seer", "auto, distill, none"), model__mechanism="seer",
                             sparsity__key_block=16, sparsity__learn="end_to_end")
        self.refuse_training(learns.format("deepspeed_fixed", "auto, none, distill, both"), model__mechanism="deepspeed_fixed",
                             sparsity__key_block=16, sparsity__learn="end_to_end")

    def test_a_mechanism_that_cannot_generate(self):
        self.succeed(*training("seer", 3, model__mechanism="seer", sparsity__key_block=16))
        self.refuse_once(r"model.mechanism = seer cannot generate", "generate", "--from-run", "seer", "--prompt", "word")
        self.succeed("eval", "--from-run", "seer", "--data", "shards")

    def test_ranks_that_do_not_fit(self):
        self.refuse_training(r"train.batch is 1 .* 2 data-parallel ranks", ranks=2, train__batch=1)
        self.refuse_training(r"parallel.tensor is 2, which does not divide the 3 ranks", ranks=3, parallel__tensor=2)

    def test_run_folders(self):
        self.succeed(*training("run", 2))
        before = (self.folder / "run/config.cfg").read_text()
        self.refuse_once(r"run folder \"run\" exists", *training("run", 2), ranks=2)
        self.assertEqual((self.folder / "run/config.cfg").read_text(), before)
        (self.folder / "file").touch()
        self.refuse_once(r"cannot make run folder \"file/run\"", *training("file/run", 2), ranks=2)


class Text(BadInput):
    def tokenize(self, text, *more):
        return ["data", "tokenize", "--input", text, "--output", "made", "--vocabulary", "300", "--validation", "0", *more]

    def test_empty_text(self):
        (self.folder / "empty.txt").touch()
        self.refuse_once(r"input is empty: .*empty\.txt", *self.tokenize("empty.txt"))
        self.assertFalse((self.folder / "made").exists())

    def test_invalid_utf8_names_file_and_line_or_is_replaced(self):
        (self.folder / "bad.txt").write_bytes("Ein Satz.\nNoch \xff einer.\n".encode("latin-1") * 40)
        self.refuse_once(r"^bad\.txt:2: invalid UTF-8: byte 0xff", *self.tokenize("bad.txt"))
        self.assertFalse((self.folder / "made").exists())
        text = self.succeed(*self.tokenize("bad.txt", "--invalid-utf8", "replace"))
        self.assertIn("40 invalid bytes replaced", text)

    def test_output_that_cannot_be_written(self):
        (self.folder / "file").touch()
        (self.folder / "some.txt").write_text("Some text.\n" * 50)
        arguments = self.tokenize("some.txt")
        arguments[arguments.index("made")] = "file"
        self.refuse_once(r"output .*file: it is a file", *arguments)
        arguments[arguments.index("file")] = "file/shards"
        self.refuse_once(r"file/shards", *arguments)


class Shards(BadInput):
    def test_missing(self):
        self.refuse_training(r"^nowhere is no folder of token shards", ranks=2, data__path="nowhere")
        self.shard().unlink()
        self.refuse_training(r"shards/train_00000.h5: missing", ranks=2)

    def test_truncated(self):
        self.shard().write_bytes(self.shard().read_bytes()[:-100])
        self.refuse_training(r"shards/train_00000.h5: truncated", ranks=2)

    def test_a_flipped_bit_is_found_before_it_is_trained_on(self):
        intact = self.shard().read_bytes()
        entry = json.loads((self.folder / "shards/manifest.json").read_text())["splits"]["train"]["shards"][0]
        self.flip(self.shard(), entry["tokens_offset"] + 2 * 8192 + 100)
        self.refuse_once(r"shards/train_00000.h5: block 1 \(tokens 8192 to ", *training("new", 40))
        self.shard().write_bytes(intact)
        # The run has its folder, and the next attempt is told what to do with it.
        self.refuse_once(r"run folder \"new\" exists and has no checkpoint; remove it or choose another --run",
                         *training("new", 2))
        shutil.rmtree(self.folder / "new")
        self.succeed(*training("new", 2))


class Resume(BadInput):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.prepare(*training("run", 4, checkpoint__every=2), ranks=2)

    def test_with_shards_of_another_tokenizer(self):
        (self.folder / "text/more.md").write_text("Zwölf Boxkämpfer jagen Viktor quer über den Sylter Deich. " * 50)
        self.succeed("data", "tokenize", "--input", "text", "--output", "other", "--vocabulary", "400",
                     "--document-paragraphs", "3")
        self.refuse_once(r"trained with tokenizer [0-9a-f]+, the shards in .*other", "train", "--resume", "run",
                         "--train.steps", "6", "--data.path", "other", ranks=2)
        self.refuse_once(r"shards in .*other.* were made with tokenizer", "eval", "--from-run", "run", "--data", "other")
        shutil.copy(self.folder / "shards/tokenizer.model", self.folder / "other/tokenizer.model")
        self.refuse_training(r"tokenizer other/tokenizer.model: it is not the one these shards were made with",
                             data__path="other")

    def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(self):
        self.flip(self.folder / "run/checkpoints/step_00000004/rank_00001.h5", -1000)
        result = self.run_program("train", "--resume", "run", "--train.steps", "6", ranks=2)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stderr, r"passing over checkpoint run/checkpoints/step_00000004: .*rank_00001.h5")
        self.assertIn("resuming after step 2", result.stdout)

    def test_a_damaged_checkpoint_is_never_passed_over_in_silence(self):
        self.flip(self.folder / "run/checkpoints/step_00000004/rank_00001.h5", -1000)
        (self.folder / "text.txt").write_text("Every document follows another.")
        for arguments in [["eval", "--from-run", "run"],
                          ["generate", "--from-run", "run", "--prompt", "The", "--max-tokens", 2],
                          ["score", "--from-run", "run", "--input", "text.txt", "--output", "scores.jsonl"],
                          ["convert", "--from-run", "run", "--to", "huggingface", "--output", "exported"],
                          training("started", 2, train__init_from="run")]:
            with self.subTest(arguments[0]):
                result = self.run_program(*arguments)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertRegex(result.stderr, r"warning.* passing over checkpoint run/checkpoints/step_00000004: "
                                                r".*rank_00001.h5.*; taking step_00000002 instead")

    def test_another_model_than_was_saved(self):
        file = self.folder / "run/config.cfg"
        for before, after, words in [("rope_theta = 10000", "rope_theta = 500", r"model.rope_theta = 500 \(saved with 10000\)"),
                                     ("\nheads = 2", "\nheads = 4", r"model.heads = 4 \(saved with 2\)")]:
            text = file.read_text()
            self.assertIn(before, text)
            file.write_text(text.replace(before, after))
            for arguments in [["eval", "--from-run", "run"],
                              ["generate", "--from-run", "run", "--prompt", "The"],
                              ["convert", "--from-run", "run", "--to", "huggingface", "--output", "exported"]]:
                self.refuse_once(r"run/config.cfg does not describe the model .* step 4: .*" + words, *arguments)
            file.write_text(text)

    def test_a_step_that_is_not_there_and_one_under_another_name(self):
        for arguments in [["generate", "--from-run", "run", "--prompt", "The", "--step", 3],
                          ["convert", "--from-run", "run", "--to", "huggingface", "--output", "exported", "--step", 3]]:
            self.refuse_once(r"run run has no checkpoint of step 3; saved are steps 2, 4", *arguments)
        folder = self.folder / "run/checkpoints"
        (folder / "step_00000004").rename(folder / "step_00000009")
        result = self.run_program("train", "--resume", "run", "--train.steps", 6)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stderr, r"step_00000009 holds step 4: it was renamed; give it the name step_00000004 back")
        self.assertIn("resuming after step 2", result.stdout)

    def test_without_any_good_checkpoint(self):
        for folder in (self.folder / "run/checkpoints").glob("step_*"):
            (folder / "manifest.json").write_text("{}")
        self.refuse_once(r"run run has no complete checkpoint", "train", "--resume", "run", "--train.steps", "6", ranks=2)

    def test_prompts_longer_than_the_model_can_read(self):
        self.refuse_once(r"prompt has \d+ tokens; .* sequences of 32", "generate", "--from-run", "run", "--prompt",
                         "word " * 100)

    def test_scores_of_what_cannot_be_read_or_written(self):
        (self.folder / "empty.txt").touch()
        (self.folder / "bad.txt").write_bytes(b"good\nbad \xff\n")
        score = ["score", "--from-run", "run", "--output", "out.jsonl", "--input"]
        self.refuse_once(r"empty.txt is empty", *score, "empty.txt")
        self.refuse_once(r"bad.txt, line 2: ", *score, "bad.txt")
        score[4] = "empty.txt/out.jsonl"
        self.refuse_once(r"empty.txt/out.jsonl", *score, "text/0.md")


if __name__ == "__main__":
    unittest.main()
