# mypy: disable-error-code="no-untyped-call"
"""Tokenizers learned from the training texts, for models that are trained from scratch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from tunesmith.types import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.trainers import Trainer
    from transformers import PreTrainedTokenizerFast

TokenizerKind = Literal["auto", "word", "character", "bpe", "bytes"]

PADDING, UNKNOWN, BEGIN, END, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL_TOKENS = (PADDING, UNKNOWN, BEGIN, END, MASK)
"""In the order of their ids: padding is 0."""

# Scripts written without spaces between words: Thai, Lao, Myanmar, Khmer, kana, Han (with
# extensions and compatibility forms). Korean puts spaces between words and is not among them.
_UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
_UNSPACED_SHARE = 0.3
_UNKNOWN_SHARE = 0.15
_MAX_TEXTS_LOOKED_AT = 20_000


def learn_tokenizer(
    texts: Sequence[str],
    kind: TokenizerKind = "auto",
    *,
    vocabulary_size: int = 30_000,
    min_frequency: int = 2,
    lowercase: bool = True,
    max_length: int = 512,
    writes: bool = False,
) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose vocabulary comes from ``texts`` alone; equal texts give an equal tokenizer.

    Rows become ``[CLS] text [SEP]`` or ``[CLS] text [SEP] pair [SEP]``, so that no row is empty; where a model
    ``writes``, they lack their beginning, which is what its decoder begins with.

    Args:
        texts: The training texts.
        kind: ``word``: words and single punctuation marks; ``character``: every character that is
            no space; ``bpe``: byte-pair encoding (Sennrich et al. 2016) inside words; ``bytes``: the same of
            bytes, to which nothing is unknown and which gives every text back as it was; ``auto``: what
            ``choose_kind`` says.
        vocabulary_size: Most tokens kept, special ones included; the most frequent win.
        min_frequency: Words, characters or pairs seen more rarely are not kept.
        lowercase: Whether case is dropped.
        max_length: Longest row in tokens, recorded with the tokenizer.
        writes: Whether the tokenizer is for a model that writes.

    Raises:
        InputError: There is no text to learn from.
    """
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    if not any(text.strip() for text in texts):
        raise InputError("There is no text to learn a vocabulary from: every training text is empty.")
    if kind == "auto":
        kind = choose_kind(texts, vocabulary_size=vocabulary_size, min_frequency=min_frequency)
    tokenizer, trainer = _untrained(kind, vocab_size=vocabulary_size, min_frequency=min_frequency)
    _set_splitting(tokenizer, kind, lowercase=lowercase)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}" if writes else f"{BEGIN} $A {END}",
        pair=f"$A {END} $B {END}" if writes else f"{BEGIN} $A {END} $B {END}",
        special_tokens=[(BEGIN, SPECIAL_TOKENS.index(BEGIN)), (END, SPECIAL_TOKENS.index(END))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PADDING,
        unk_token=UNKNOWN,
        cls_token=BEGIN,
        sep_token=END,
        mask_token=MASK,
        **({"eos_token": END} if writes else {}),
        model_max_length=max_length,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
    )


def choose_kind(
    texts: Sequence[str], *, vocabulary_size: int = 30_000, min_frequency: int = 2
) -> Literal["word", "character", "bpe"]:
    """Look at the texts (up to 20,000, evenly spread) and say which kind suits them.

    ``character`` when at least 30% of the letters belong to scripts without spaces between words;
    ``bpe`` when a word vocabulary of the given limits would leave more than 15% of the running
    words unknown; ``word`` otherwise.
    """
    stride = max(1, len(texts) // _MAX_TEXTS_LOOKED_AT)
    sample = texts[::stride]
    letters = Counter(character for text in sample for character in text if character.isalpha())
    unspaced = sum(count for letter, count in letters.items() if any(a <= ord(letter) <= b for a, b in _UNSPACED))
    if unspaced >= _UNSPACED_SHARE * max(1, letters.total()):
        return "character"
    words = Counter(word for text in sample for word in text.lower().split())
    kept = [count for _, count in words.most_common(vocabulary_size) if count >= min_frequency]
    return "bpe" if sum(kept) < (1 - _UNKNOWN_SHARE) * words.total() else "word"


def _untrained(kind: TokenizerKind, **limits: int) -> tuple[Tokenizer, Trainer]:
    """Return a tokenizer without a vocabulary, and what learns one."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    settings: dict[str, Any] = {**limits, "special_tokens": list(SPECIAL_TOKENS), "show_progress": False}
    if kind == "bpe":
        return Tokenizer(models.BPE(unk_token=UNKNOWN)), trainers.BpeTrainer(**settings)
    if kind == "bytes":
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        return Tokenizer(models.BPE()), trainers.BpeTrainer(initial_alphabet=alphabet, **settings)
    return Tokenizer(models.WordLevel(unk_token=UNKNOWN)), trainers.WordLevelTrainer(**settings)


def _set_splitting(tokenizer: Tokenizer, kind: TokenizerKind, *, lowercase: bool) -> None:
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    if kind == "bytes":
        if lowercase:
            tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        return
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), *([normalizers.Lowercase()] if lowercase else [])])
    if kind == "word":
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    elif kind == "character":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), behavior="isolated")]
        )
        tokenizer.decoder = decoders.Fuse()
    else:
        # A word's first piece starts with a mark that stands for the space before it.
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation(behavior="isolated")]
        )
        tokenizer.decoder = decoders.Metaspace()
