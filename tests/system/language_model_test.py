#!/usr/bin/env python3
"""From text to a trained model, on the prose of this repository: train on every layout, evaluate, score, generate, compare."""
import json
import math
import unittest

from harness import ModelTest, training

SEQUENCE = 32


class Training(ModelTest):
    def test_the_model_learns_and_a_run_can_be_extended(self):
        text = self.succeed(*training("run", 40, optimizer__learning_rate=0.02), ranks=2)
        self.assertIn("unigram model of the same text", text)
        losses = self.losses("run")
        self.assertLess(losses[40], losses[1] - 0.5)
        self.succeed("train", "--resume", "run", "--train.steps", "42", ranks=2)
        self.assertEqual(sorted(self.losses("run")), list(range(1, 43)))

    def test_every_layout_follows_the_curve_of_one_rank(self):
        """Same windows in the same order: the first loss is of the same weights and differs by rounding (2^-24 = 6e-8) only;
        later ones carry what AdamW makes of rounding where gradients are near zero: its step is their sign, not their size.
        Seen: 4e-8 at most."""
        self.succeed(*training("one", 8), ranks=1)
        alone = self.losses("one")
        for ranks, tensor in [(2, 1), (2, 2), (4, 2)]:
            run = f"ranks{ranks}tensor{tensor}"
            self.succeed(*training(run, 8, parallel__tensor=tensor), ranks=ranks)
            together = self.losses(run)
            self.assertEqual(sorted(together), sorted(alone))
            self.assertAlmostEqual(together[1] / alone[1], 1, delta=1e-6, msg=run)
            for step, loss in alone.items():
                self.assertAlmostEqual(together[step] / loss, 1, delta=1e-5, msg=f"{run} step {step}")


class TrainedModel(ModelTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.prepare(*training("run", 40, optimizer__learning_rate=0.02))

    def evaluate(self, *arguments):
        return json.loads(self.succeed("eval", "--from-run", "run", "--json", *arguments))

    def score(self, text):
        """The rows of `filigree score` for this text, which must spell it."""
        (self.folder / "text.txt").write_text(text)
        self.succeed("score", "--from-run", "run", "--input", "text.txt", "--output", "scores.jsonl")
        rows = [json.loads(row) for row in (self.folder / "scores.jsonl").read_text().splitlines()]
        self.assertEqual([row["position"] for row in rows], list(range(len(rows))))
        self.assertTrue(all(row["log_probability"] < 0 and 0 <= row["id"] < 400 for row in rows))
        return rows

    def window_of_text(self, rows, begin):
        """Words from row `begin` on that are one training window of tokens."""
        def word(row):
            return row["token"].startswith(" ")
        for at in range(begin, len(rows) - SEQUENCE):
            part = rows[at:at + SEQUENCE]
            if word(part[0]) and word(rows[at + SEQUENCE]) and not any(row["token"].startswith("<") for row in part):
                return "".join(row["token"] for row in part)
        self.fail("no window begins and ends at a word")

    def test_eval_is_the_same_on_every_layout(self):
        report = self.evaluate()
        self.assertEqual(report["step"], 40)
        self.assertAlmostEqual(report["perplexity"], math.exp(report["loss"]), delta=1e-9 * report["perplexity"])
        self.assertLess(report["perplexity"], 400 / 2)
        for tensor in [1, 2]:
            text = self.succeed("eval", "--from-run", "run", "--json", "--tensor", tensor, ranks=2)
            self.assertAlmostEqual(json.loads(text)["loss"] / report["loss"], 1, delta=1e-6)

    def test_scores_of_a_text_have_the_perplexity_that_eval_prints(self):
        """Evaluation cuts the tokens of a split into windows. Of two documents of one window each, and an end of document
        after them, the second window is what `score` sees: the end of a document, then the text."""
        rows = self.score((self.folder / "text/0.md").read_text())
        texts = [self.window_of_text(rows, begin) for begin in (0, 200)]
        (self.folder / "pair.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        self.succeed("data", "tokenize", "--input", "pair.jsonl", "--output", "pair", "--validation", "0", "--tokenizer",
                     "run/tokenizer.model")
        one, both = (self.evaluate("--data", "pair", "--split", "train", "--max-tokens", windows * SEQUENCE)
                     for windows in (1, 2))
        self.assertEqual((one["tokens"], both["tokens"]), (SEQUENCE, 2 * SEQUENCE))

        scores = self.score(texts[1])
        self.assertEqual("".join(row["token"] for row in scores), texts[1])
        self.assertEqual(len(scores), SEQUENCE)
        perplexity = math.exp(-sum(row["log_probability"] for row in scores) / len(scores))
        second = math.exp(2 * both["loss"] - one["loss"])
        self.assertAlmostEqual(perplexity / second, 1, delta=1e-5)

    def test_generation(self):
        def generate(*options):
            text = self.succeed("generate", "--from-run", "run", "--prompt", "The", "--max-tokens", "20", *options)
            self.assertTrue(text.startswith("The"), text)
            self.assertGreater(len(text), len("The") + 10)
            return text
        greedy = generate("--greedy")
        self.assertEqual(generate("--greedy"), greedy)
        self.assertEqual(generate("--top-k", "1", "--seed", "7"), greedy)
        sampled = generate("--seed", "3")
        self.assertEqual(generate("--seed", "3"), sampled)
        self.assertNotEqual(generate("--seed", "4"), sampled)


class Benchmarks(ModelTest):
    def test_scale_writes_a_row_for_every_layout(self):
        values = training("unused", 1)[3:]  # no --run
        self.succeed("bench", "scale", "--steps", "2", "--warmup", "1", "--output", "scale", *values, ranks=4)
        layouts = json.loads((self.folder / "scale.json").read_text())["layouts"]
        names = [row["layout"] for row in layouts]
        self.assertEqual(sorted(names), ["1", "dp2", "dp2 x tp2", "dp4", "tp2"])
        table = (self.folder / "scale.md").read_text()
        for row in layouts:
            self.assertIn(f"| {row['layout']} |", table)
            self.assertGreater(row["tokens_per_second"], 0)

    def test_kernels_prints_the_implementations_of_an_op(self):
        text = self.succeed("bench", "kernels", "--filter", "swiglu", "--threads", "1", "--json", "kernels.json")
        self.assertRegex(text, r"swiglu_forward +4096x2048 +f32 +reference ")
        rows = json.loads((self.folder / "kernels.json").read_text())["kernels"]
        self.assertEqual({row["op"] for row in rows}, {"swiglu_forward", "swiglu_backward"})
        fast = [row for row in rows if row["picked"] and row["dtype"] == "f32"]
        self.assertEqual(len(fast), 2)
        for row in fast:
            self.assertNotEqual(row["implementation"], "reference")
            self.assertLess(row["error"], 1e-5)


if __name__ == "__main__":
    unittest.main()
