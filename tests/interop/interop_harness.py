"""What the tests of this folder share: small runs of ours, and the same text under transformers."""
import pathlib
import sys
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))

warnings.filterwarnings("ignore")

import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from harness import ModelTest, training  # noqa: E402

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.manual_seed(0)
SEQUENCE = 128
TEXT = "Every document follows the end of another one, and a text of many tokens goes through the gate: "
SHAPE = {"model.layers": 2, "model.width": 64, "model.heads": 4, "model.kv_heads": 2, "model.sequence": SEQUENCE,
         "train.batch": 4, "optimizer.learning_rate": 0.01}


class InteropTest(ModelTest):
    def trained(self, run, steps=30, **changes):
        self.succeed(*training(run, steps, **{**SHAPE, **changes}))
        return run

    def exported(self, run, *options, to="huggingface"):
        output = f"{run}_{to}" if to == "huggingface" else f"{run}.gguf"
        self.succeed("convert", "--from-run", run, "--to", to, "--output", output, "--verify", *options)
        return self.folder / output

    def our_logits(self, run):
        """Logits [T, V] after each of the first tokens of a text longer than a sequence, and their ids [T]."""
        (self.folder / "text.txt").write_text(TEXT * 8)
        self.succeed("score", "--from-run", run, "--input", "text.txt", "--output", "scores.jsonl", "--logits",
                     f"{run}.logits")
        tensors = load_file(self.folder / f"{run}.logits")
        self.assertEqual(tensors["ids"].shape, (SEQUENCE,))
        return tensors["logits"], tensors["ids"].long()

    def load(self, folder, **options):
        return transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", **options).eval()

    def logits(self, model, ids):
        with torch.no_grad():
            return model(input_ids=ids[None]).logits[0].float()

    def assert_same_logits(self, run, model, tolerance=1e-4):
        """Within an absolute 1e-4 in f32. Without spread in the logits, this would say little."""
        ours, ids = self.our_logits(run)
        self.assertGreater(ours.std().item(), 0.3)
        distance = (self.logits(model, ids) - ours).abs().max().item()
        self.assertLess(distance, tolerance)

    def assert_same_continuation(self, run, folder, model, prompt="The gate reads", tokens=64):
        ours = self.succeed("generate", "--from-run", run, "--prompt", prompt, "--max-tokens", tokens, "--greedy")
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        begin = tokenizer(prompt, return_tensors="pt")
        with torch.no_grad():
            # One process: not asked, because torch 1.13 cannot say under Python 3.11.
            ids = model.generate(**begin, do_sample=False, max_new_tokens=tokens, synced_gpus=False)[0]
        self.assertEqual(len(ids) - begin.input_ids.shape[1], tokens, "the text ended early: choose another prompt")
        self.assertEqual(tokenizer.decode(ids[1:]), ours[:-1])
