#!/usr/bin/env python3
"""The exported tokenizer gives every text the ids that Filigree gives it."""
import json
import random
import unittest

import transformers
from interop_harness import InteropTest

TEXTS = ["", " ", "  two  spaces  ", "The gate reads blocks.", "a\nb\n\nc\t", "naïve café — Übergröße", "日本語のテキスト", "🙂👩‍👩‍👧 z̃",
         "s> is not </s", "0123456789" * 5, "def f(x):\n    return x ** 2\n", "\u00a0\u200b", "ﬁne Ⅷ ½", "the the the the"]


class Tokenizers(InteropTest):
    def test_ids_are_the_same(self):
        self.trained("run", steps=2)
        tokenizer = transformers.AutoTokenizer.from_pretrained(self.exported("run"))
        draw = random.Random(5)
        prose = "".join(path.read_text() for path in sorted((self.folder / "text").iterdir())).replace("</s>", "")
        texts = TEXTS + [prose[begin:begin + 400] for begin in draw.sample(range(len(prose) - 400), 10)]
        texts += ["".join(chr(draw.choice([draw.randrange(32, 127), draw.randrange(160, 0x2000)])) for _ in range(60))
                  for _ in range(10)]
        for text in texts:
            if not text:
                self.assertEqual(tokenizer(text).input_ids, [tokenizer.eos_token_id])
                continue
            (self.folder / "text.txt").write_text(text)
            self.succeed("score", "--from-run", "run", "--input", "text.txt", "--output", "scores.jsonl")
            ours = [json.loads(row)["id"] for row in (self.folder / "scores.jsonl").read_text().splitlines()]
            theirs = tokenizer(text).input_ids
            self.assertEqual(theirs, [tokenizer.bos_token_id] + ours, repr(text))
            self.assertEqual(tokenizer(text, add_special_tokens=False).input_ids, ours, repr(text))
            self.assertEqual(tokenizer.decode(ours), text)


if __name__ == "__main__":
    unittest.main()
