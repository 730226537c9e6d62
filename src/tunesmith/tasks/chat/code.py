"""The code on the model card that has an answer written, with nothing but ``transformers``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def beginning_code() -> tuple[str, ...]:
    """Return the lines that tokenise a plain text to be gone on from."""
    return ('inputs = tokenizer("The beginning of a text", return_tensors="pt")',)


def question_code(system: str | None, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the lines that tokenise a conversation; ``arguments`` are further variables of the template."""
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": "Your question."})
    more = "".join(f", {name}={value!r}" for name, value in arguments.items())
    return (
        f"messages = {json.dumps(messages, ensure_ascii=False)}",
        "inputs = tokenizer.apply_chat_template(",
        f'    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"{more}',
        ")",
    )


def image_question_code(system: str | None, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the lines that make tokens and pixels of a conversation with an image in it."""
    parts: list[dict[str, str]] = [{"type": "image"}, {"type": "text", "text": "Your question."}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": parts}]
    if system:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    more = "".join(f", {name}={value!r}" for name, value in arguments.items())
    return (
        "from PIL import Image",
        "from transformers import AutoProcessor",
        "",
        'processor = AutoProcessor.from_pretrained(folder, backend="pil")',
        f"messages = {json.dumps(messages, ensure_ascii=False)}",
        f"text = processor.apply_chat_template(messages, add_generation_prompt=True{more})",
        'image = Image.open("image.png").convert("RGB")',
        'inputs = processor(text=[text], images=[image], add_special_tokens=False, return_tensors="pt")',
    )


def answering_code(ends: Sequence[str]) -> tuple[str, ...]:
    """Return the lines that write the likeliest answer to ``inputs``, up to one of the tokens ``ends``, if any.

    They are named although a whole model knows them: an adapter's base may end its answers by others.
    """
    stop = f", eos_token_id=tokenizer.convert_tokens_to_ids({list(ends)!r})" if ends else ""
    return (
        f"written = model.generate(**inputs, max_new_tokens=256, do_sample=False{stop})",
        "print(tokenizer.decode(written[0, inputs.input_ids.shape[1] :], skip_special_tokens=True))",
    )
