"""Methods of other tools: LoRA and its variants, quantised bases, full and partial training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.other_tools.translation import Translation, is_said

LORA_KEYS = (
    "lora_rank lora_r lora_alpha lora_dropout lora_target lora_target_modules lora_target_linear target_modules "
    "use_rslora use_dora peft_use_rslora peft_use_dora pissa_init pissa_iter loraplus_lr_ratio lora_bias "
    "lora_layers_to_transform peft_layers_to_transform lora_modules_to_save modules_to_save additional_target "
    "lora_dtype lorap_lr_ratio"
)
TRAINED_WHOLE = (
    "Of a model, what the adapter stands beside and a new head are trained; embeddings and output layers are adapted "
    "by naming them in method.target_modules."
)
STARTS: Mapping[str, tuple[str, str]] = {
    "pissa": ("pissa", ""),
    "olora": ("olora", ""),
    "corda": ("corda", ""),
    "eva": ("eva", ""),
    "loftq": ("loftq", ""),
    "lora-ga": ("lora_ga", ""),
    "lora_ga": ("lora_ga", ""),
}
"""How LoRA's matrices begin, there, and the method here."""


def translate_start(found: Translation, key: str) -> None:
    """Translate how LoRA's matrices begin: ``pissa``, ``olora``, ``gaussian`` and their kin."""
    start = found.get(key)
    name = str(start).lower()
    if start is None:
        return
    if name.startswith("pissa_niter_"):
        found.translate(key, {"method": "pissa", "method.iterations": int(name.removeprefix("pissa_niter_"))})
    elif name in STARTS:
        found.translate(key, {"method": STARTS[name][0]})
    elif name == "gaussian":
        found.translate(key, {"method.init": "gaussian"})
    elif name in ("true", "default"):
        found.needless(key, "It is the usual start.")
    else:
        found.leave_out(key, "Starts are default, gaussian, and the methods pissa, olora, corda, eva, loftq, lora_ga.")


def translate_bits(found: Translation, key: str) -> None:
    """Translate a number of bits of the frozen base."""
    bits = found.number(key)
    if bits is None:
        return
    if bits in (4, 8) and _adapts(found):
        found.translate(key, {"method.quantize": "nf4" if bits == 4 else "int8"})
    else:
        found.leave_out(key, "A base has 4 bits (method.quantize: nf4) or 8 (int8), and that beside LoRA alone.")


def translate_loads(found: Translation) -> None:
    """Translate the switches ``load_in_4bit`` and ``load_in_8bit``, and what goes with them."""
    for key, form in (("load_in_4bit", "nf4"), ("load_in_8bit", "int8")):
        if found.is_on(key) and _adapts(found):
            found.translate(key, {"method.quantize": form})
        elif found.is_on(key):
            found.leave_out(key, "A base of few bits stands beside an adapter alone: method: lora.")
    for key, usual in (("bnb_4bit_quant_type", "nf4"), ("quantization_type", "nf4")):
        if found.get(key) == usual:
            found.needless(key, "4 bits are NF4 here.")
        elif is_said(found.get(key)):
            found.leave_out(key, "4 bits are NF4 here.")
    found.needless(
        "use_bnb_nested_quant double_quantization bnb_4bit_use_double_quant bnb_4bit_compute_dtype "
        "bnb_4bit_quant_storage upcast_layernorm upcast_lmhead_output",
        "It is chosen with method.quantize.",
    )


def translate_merging_keys(found: Translation) -> None:
    """Say of modules that are trained whole beside an adapter what there is instead."""
    found.leave_out("additional_target modules_to_save lora_modules_to_save", TRAINED_WHOLE)


def without_lora(found: Translation) -> None:
    """Say of LoRA's options that nothing comes of them where another method is chosen."""
    if not _adapts(found):
        found.needless(LORA_KEYS, "It is an option of LoRA, and the method is another.")


def _adapts(found: Translation) -> bool:
    return found.settings.get("method.name") not in (None, "full", "freeze", "bitfit", "lisa", "sparse")


def set_optimizer(found: Translation, keys: str, name: str, options: Mapping[str, Any]) -> None:
    """Choose an optimizer that other keys than its name ask for, with its options."""
    found.translate(keys, {"train.optimizer": name, "train.optimizer.options": dict(options)})
