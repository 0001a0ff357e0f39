"""Models with byte-level tokenizers as Llama 3, Qwen2, GPT-2 and Mistral Nemo have them, and of another kind, small: trained
here by the tokenizers package, with the expressions of the originals."""
import json
import random
import sys
import unicodedata

import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
WORDS = {
    "llama3": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + REST,
    "qwen2": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + REST,
    "nemo": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
            r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "gaps": r"\p{Lu}?\p{Ll}++(?!\p{Lu})|\p{N}{2}|[\r\n]{1,3}",  # what lies between matches are words too
}
SPECIAL = {"llama3": ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"], "qwen2": ["<|endoftext|>", "<|im_end|>"],
           "gpt2": ["<|endoftext|>"], "nemo": ["<|unk|>", "<|s|>", "<|/s|>"],
           "gaps": ["<|end|>"]}
END = {"llama3": "<|end_of_text|>", "qwen2": "<|endoftext|>", "gpt2": "<|endoftext|>", "nemo": "<|/s|>",
       "gaps": "<|end|>"}
LITERAL = {"qwen2": ["<think>", "</think>", "<tool_call>"]}
FORMS = list(SPECIAL)
VOCABULARY = 700
PADDED = 768  # rows of the embedding

TRICKY = [" ", "\n", "  two  spaces  ", "a\nb\n\nc\t", "naïve café — Übergröße", "日本語のテキスト、漢字", "🙂👩‍👩‍👧 z̃ ﬁ",
          "0123456789" * 5, "1 22 333 4444 55555", "def f(x):\n    return x ** 2\n\n\n", "\u00a0\u200b\u3000x", "Ⅷ ½ ² ④",
          "e\u0301 o\u0323\u0302 \u1100\u1161\u11a8 A\u030a \u212b", "I'm we'LL they'Ve 'S 'ſ ''s don'", "\r\n \r\n\r\r  \r",
          "   \n   \n", "x   ", "\t\t if\t(a&&b){}//c", "<think>no</think> <think", "a<tool_call>\n</tool_call>",
          "İstanbul ΑΣ ǅ ʰ 𝒳𝓎 한국어", "\ufeffx\x00\x01\x7f", "ÀÈ" * 40, "." * 70 + "\n" + "=" * 70, "\u0301\u0301x"]


def random_texts(prose, seed, count):
    """Pieces of prose, of tricky texts, and characters of all of Unicode that Python's version of it knows."""
    draw = random.Random(seed)
    limits = [0x80, 0x250, 0x3000, 0x20000, sys.maxunicode]

    def character():
        while True:
            one = chr(draw.randrange(draw.choice(limits)))
            if unicodedata.category(one) not in ("Cn", "Cs"):
                return one

    def piece():
        kind = draw.randrange(5)
        if kind == 0:
            begin = draw.randrange(len(prose) - 60)
            return prose[begin:begin + draw.randrange(60)]
        if kind == 1:
            return draw.choice(TRICKY)
        if kind == 2:
            return draw.choice([" ", "\n", "\r\n", "\t", "'", ".", "\u00a0", "\u2028", "7"]) * draw.randrange(1, 5)
        return "".join(character() for _ in range(draw.randrange(1, 6)))

    return ["".join(piece() for _ in range(draw.randrange(1, 40))).replace("<|", "<") for _ in range(count)]


def make_tokenizer(form, texts):
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=form == "gpt2")
    if form != "gpt2":
        split = pre_tokenizers.Split(Regex(WORDS[form]), behavior="isolated")
        byte_level = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = decoders.ByteLevel()
    if form == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL[form]) - len(LITERAL.get(form, [])), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.add_special_tokens(SPECIAL[form])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in LITERAL.get(form, [])])
    if form == "llama3":
        begin = SPECIAL[form][0]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))])
    content = json.loads(tokenizer.to_str())
    content["model"]["ignore_merges"] = form in ("llama3", "nemo")
    return json.dumps(content, ensure_ascii=False, indent=2)


def make_model(folder, form, texts):
    """A folder as save_pretrained leaves it; its embedding has more rows than the tokenizer tokens."""
    folder.mkdir()
    (folder / "tokenizer.json").write_text(make_tokenizer(form, texts))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END[form], "clean_up_tokenization_spaces": False}
    if form == "llama3":
        settings["bos_token"] = SPECIAL[form][0]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=4))
    family = "Qwen2" if form == "qwen2" else "Llama"
    end = tokenizer.token_to_id(END[form])
    config = getattr(transformers, f"{family}Config")(
        vocab_size=PADDED, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.1, eos_token_id=end,
        bos_token_id=tokenizer.token_to_id(SPECIAL[form][0]), tie_word_embeddings=form == "qwen2")
    model = getattr(transformers, f"{family}ForCausalLM")._from_config(config, attn_implementation="eager")
    model.to(torch.float32).save_pretrained(folder)
    return tokenizer, model
