"""Ways to damage a file: bits, pieces, structure, encodings, and pieces of other files."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Sequence
from copy import deepcopy
from random import Random
from typing import Any

Mutator = Callable[[bytes, Random, Sequence[bytes]], bytes]

SNIPPETS = (
    b'"', b'""', b",", b"\t", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"{", b"}", b"[",
    b"]", b"\\", b"\\ud800", b"\xed\xa0\x80", b"\x1f\x8b", b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-", b";",
    b"null", b"true", b'{"text":', b"9" * 400, b"9" * 5000, b"[" * 3000, b'{"a":' * 1500, b"sep=;\n", b"\x80\x04",
    b"PAR1", b"ARROW1", b"B-", b"I-", b"O", b"__label__", b"-DOCSTART-", b"#", b"\x1b[2J", b"\xe2\x80\xae",
    b"\xcc\x81" * 3000, b"\xc2\xa0", b"a" * 200_000, b" " * 5000, b"'", b"&a ", b"*a ", b"!!bool ", b"<<: ", b"---\n",
    b"{{", b"}}", b"{%", b"%}", b"0", b"-1", b"1", b"4294967296", b"1e400", b"\xe2\x80\xa8", b"%", b"$", b"|", b": ",
    b'""', b"[]", b"{}", b"false", b"auto_map", b"../", b"/dev/null",
)  # fmt: skip
STRUCTURE = b"\"',;:\t\n\r{}[]()<>|#=%&*!\\/-0123456789 "


def flip_bits(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    del others
    changed = bytearray(content)
    for _ in range(random.randint(1, 8)):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def cut(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    del others
    start, end = sorted(random.randint(0, len(content)) for _ in range(2))
    return random.choice([content[:end], content[start:], content[:start] + content[end:]])


def double(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    del others
    start, end = sorted(random.randint(0, len(content)) for _ in range(2))
    return content[:end] + content[start:end] * random.randint(1, 5) + content[end:]


def splice(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    other = random.choice(others)
    start, end = random.randint(0, len(content)), random.randint(0, len(other))
    return content[:start] + other[end:]


def insert(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    del others
    changed = bytearray(content)
    for _ in range(random.randint(1, 4)):
        place = random.randint(0, len(changed))
        changed[place : place + random.choice([0, 0, 1, 4, 20])] = random.choice(SNIPPETS)
    return bytes(changed)


def swap_structure(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    """Exchange the characters that give a text its structure, some or all of a kind."""
    del others
    old, new = random.choice(STRUCTURE), random.choice(STRUCTURE)
    if random.random() < 0.3:
        return content.replace(bytes([old]), bytes([new]))
    places = [place for place, byte in enumerate(content) if byte in STRUCTURE]
    changed = bytearray(content)
    for place in random.sample(places, min(len(places), random.randint(1, 6))):
        changed[place] = random.choice(STRUCTURE)
    return bytes(changed)


def swap_lines(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    del others
    lines = content.split(b"\n")
    first, second = random.randrange(len(lines)), random.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    return b"\n".join(lines)


def other_encoding(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    del others
    text = content.decode("utf-8", "replace")
    name = random.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "gb18030", "shift_jis", "utf-7"])
    return text.encode(name, "replace")


def compress(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    del others
    return random.choice([gzip.compress, bz2.compress, lzma.compress])(content)


def random_bytes(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    del others
    changed = bytearray(content)
    for _ in range(random.randint(1, 3)):
        place = random.randint(0, len(changed))
        changed[place : place + random.randint(0, 16)] = random.randbytes(random.randint(0, 16))
    return bytes(changed)


VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 97, 10**6, 10**18, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf"),
    "", "a", "0",
    "gelu", "bert", "é" * 300, "(a+)+$", "../../x", "<unk>", [], [0], [None], ["a"] * 3, {}, {"a": 1}, {"0": "x"},
    [[1]],
    {"type": "Sequence", "normalizers": []}, {"Regex": "(a|aa)+$"},
)  # fmt: skip
KEYS = (
    "return_dict", "output_attentions", "output_hidden_states", "pad_token_id", "eos_token_id", "bos_token_id",
    "num_labels",
    "id2label", "label2id", "problem_type", "torch_dtype", "dtype", "architectures", "max_position_embeddings",
    "tie_word_embeddings", "use_cache", "hidden_act", "vocab_size", "rope_scaling", "rope_parameters", "rope_theta",
    "attn_implementation", "chunk_size_feed_forward", "is_decoder", "add_cross_attention", "is_encoder_decoder",
    "pruned_heads", "tokenizer_class", "unk_token", "pad_token", "model_max_length", "truncation_side", "padding_side",
    "added_tokens_decoder", "target_modules", "exclude_modules", "rank_pattern", "alpha_pattern", "layers_to_transform",
    "layers_pattern", "modules_to_save", "r", "lora_alpha", "bias", "use_dora", "use_rslora", "fan_in_fan_out",
    "init_lora_weights", "peft_type", "task_type", "base_model_name_or_path", "revision", "trainable_token_indices",
    "temperature", "max_length", "transformers_version", "initializer_range", "layer_norm_eps", "normalizer",
)  # fmt: skip


def change_json(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    """Give some keys of a JSON object, or of the header of a safetensors file, values that they should not have."""
    head = int.from_bytes(content[:8], "little")
    is_tensors = 2 < head < len(content) and content[8:9] == b"{"
    try:
        values = json.loads(content[8 : 8 + head] if is_tensors else content)
    except (ValueError, RecursionError):
        return insert(content, random, others)
    for _ in range(random.randint(1, 2)):
        inner = values
        while isinstance(inner, dict | list) and inner:
            key = random.choice(list(inner)) if isinstance(inner, dict) else random.randrange(len(inner))
            if not isinstance(inner[key], dict | list) or not inner[key] or random.random() < 0.3:
                inner[key] = deepcopy(random.choice(VALUES))
                break
            inner = inner[key]
        if isinstance(values, dict) and random.random() < 0.5:
            values[random.choice(KEYS)] = deepcopy(random.choice(VALUES))
    text = json.dumps(values).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + head :] if is_tensors else text


MUTATORS: tuple[Mutator, ...] = (
    flip_bits, cut, double, splice, insert, insert, swap_structure, swap_structure, swap_lines, other_encoding,
    compress,
    random_bytes, change_json, change_json,
)  # fmt: skip
MAX_LENGTH = 400_000


def mutated(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    """Return ``content`` damaged in one to three ways."""
    if content[:1] == b"{" or content[8:9] == b"{":
        content = change_json(content, random, others)  # what breaks off at the first brace shows little
        if random.random() < 0.8:
            return content
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        content = random.choice(MUTATORS)(content, random, others)[:MAX_LENGTH]
    return content
