"""Tiny vision-language models of several families, with processors and tokenizers of their own, and coloured shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("PIL")

from PIL import Image, ImageDraw
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from tunesmith.models.quiet import quiet

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}
SHAPES = ("circle", "square")
FAMILIES = ("llava", "qwen2_vl", "idefics3")
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ 'IMAGE' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{{ '</s>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 512,
}
_IMAGE_TOKENS = {"llava": "<image>", "qwen2_vl": "<|image_pad|>", "idefics3": "<image>"}
_MORE_TOKENS = {
    "llava": (),
    "qwen2_vl": ("<|vision_start|>", "<|vision_end|>", "<|video_pad|>"),
    "idefics3": (
        "<fake_token_around_image>",
        "<global-img>",
        "<end_of_utterance>",
        *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
    ),
}


def shape_image(colour: str, shape: str = "circle", size: int = 24, offset: int = 0) -> Image.Image:
    """Return a shape of a colour on grey."""
    image = Image.new("RGB", (size, size), (120, 120, 120))
    draw = ImageDraw.Draw(image)
    box = (3 + offset, 3, size - 4, size - 4 - offset)
    (draw.ellipse if shape == "circle" else draw.rectangle)(box, fill=COLOURS[colour])
    return image


def draw_shape(path: Path, number: int) -> tuple[Path, str, str]:
    """Write the image of a number; return its path, its colour and its shape."""
    colour, shape = list(COLOURS)[number % 3], SHAPES[number // 3 % 2]
    path.parent.mkdir(parents=True, exist_ok=True)
    shape_image(colour, shape, 24, number // 6 % 5).save(path)
    return path, colour, shape


def asked(folder: Path, num: int) -> list[dict[str, Any]]:
    """Write images into a folder; return a conversation about each, as OpenAI writes them."""
    rows = []
    for number in range(num):
        path, colour, shape = draw_shape(folder / "images" / f"{number}.png", number)
        question, answer = [("Which colour?", colour), ("Which shape?", shape)][number % 2]
        image = {"type": "image_url", "image_url": {"url": f"images/{path.name}"}}
        content = [image, {"type": "text", "text": question}]
        rows.append({"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]})
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def tokenizer_for(family: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer of bytes that knows a family's tokens of images."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", pad_token="<pad>")
    own = [_IMAGE_TOKENS[family], *_MORE_TOKENS[family], "<|user|>", "<|assistant|>", "<|system|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": own})
    token = _IMAGE_TOKENS[family]
    written = f"<|vision_start|>{token}<|vision_end|>" if family == "qwen2_vl" else token
    tokenizer.chat_template = TEMPLATE.replace("IMAGE", written)
    return tokenizer


def _llava(tokenizer: Any, ids: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8
    )
    text = LlamaConfig(**_TEXT, **ids, vocab_size=len(tokenizer), tie_word_embeddings=False)
    image = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=image,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    processor = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    more = {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    return LlavaForConditionalGeneration(config), processor, {"processor_class": "LlavaProcessor", **more}


def _qwen2_vl(tokenizer: Any, ids: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    named = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    config = Qwen2VLConfig(
        text_config={**_TEXT, **ids, "vocab_size": len(tokenizer), "rope_parameters": rope},
        vision_config={"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 8},
        **{key: tokenizer.convert_tokens_to_ids(token) for key, token in named.items()},
    )
    sizes = {"size": {"shortest_edge": 16 * 16, "longest_edge": 32 * 48}, "patch_size": 8}
    return (
        Qwen2VLForConditionalGeneration(config),
        Qwen2VLImageProcessorPil(**sizes),
        {"processor_class": "Qwen2VLProcessor"},
    )


def _idefics3(tokenizer: Any, ids: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    config = Idefics3Config(
        text_config={"model_type": "llama", **_TEXT, **ids, "vocab_size": len(tokenizer)},
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 4,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        **{key: value for key, value in ids.items() if key == "pad_token_id"},
    )
    processor = Idefics3ImageProcessorPil(size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
    more = {"processor_class": "Idefics3Processor", "image_seq_len": 4}
    return Idefics3ForConditionalGeneration(config), processor, more


def vision_folder(folder: Path, family: str = "llava", seed: int = 0) -> Path:
    """Save a tiny vision-language model, its tokenizer and its processor; return their folder."""
    folder = folder / family
    tokenizer = tokenizer_for(family)
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    make = {"llava": _llava, "qwen2_vl": _qwen2_vl, "idefics3": _idefics3}[family]
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        model, processor, described = make(tokenizer, ids)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    described = {**described, "image_processor": processor.to_dict()}
    (folder / "processor_config.json").write_text(json.dumps(described), encoding="utf-8")
    return folder
