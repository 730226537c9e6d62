"""Which parameters are trained, and how: ``METHODS`` by name."""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith.methods.adalora import AdaLora
from tunesmith.methods.any_peft import AnyPeft
from tunesmith.methods.auto import Auto
from tunesmith.methods.base import Method, ParameterGroup, trained_parameters
from tunesmith.methods.bitfit import BitFit
from tunesmith.methods.compress import Compress
from tunesmith.methods.contrastive import Contrastive
from tunesmith.methods.few_vectors import Ia3, LnTuning, TrainableTokens
from tunesmith.methods.freeze import Freeze
from tunesmith.methods.full import Full
from tunesmith.methods.lisa import Lisa
from tunesmith.methods.loftq import LoftQ
from tunesmith.methods.lora import Lora
from tunesmith.methods.lora_eva import Eva
from tunesmith.methods.lora_starts import Corda, LoraGa, Olora, Pissa
from tunesmith.methods.lora_variants import Dora, LoraFa, LoraPlus, RsLora
from tunesmith.methods.orthogonal import Boft, Hra, Oft, Road
from tunesmith.methods.prompts import PrefixTuning, PromptTuning, PTuning
from tunesmith.methods.sparse import Sparse
from tunesmith.methods.structured_matrices import C3a, FourierFt, LoHa, LoKr, Miss, RandLora, Shira, Vera

__all__ = ["DEFAULT_METHOD", "METHODS", "Freeze", "Full", "Lora", "Method", "ParameterGroup", "trained_parameters"]

METHODS: Mapping[str, type[Method]] = {
    "full": Full,
    "freeze": Freeze,
    "lora": Lora,
    "bitfit": BitFit,
    "lisa": Lisa,
    "sparse": Sparse,
    "rslora": RsLora,
    "dora": Dora,
    "lora_plus": LoraPlus,
    "lora_fa": LoraFa,
    "pissa": Pissa,
    "olora": Olora,
    "eva": Eva,
    "corda": Corda,
    "lora_ga": LoraGa,
    "loftq": LoftQ,
    "adalora": AdaLora,
    "ia3": Ia3,
    "prefix_tuning": PrefixTuning,
    "prompt_tuning": PromptTuning,
    "p_tuning": PTuning,
    "vera": Vera,
    "loha": LoHa,
    "lokr": LoKr,
    "oft": Oft,
    "boft": Boft,
    "hra": Hra,
    "fourierft": FourierFt,
    "miss": Miss,
    "randlora": RandLora,
    "shira": Shira,
    "c3a": C3a,
    "road": Road,
    "ln_tuning": LnTuning,
    "trainable_tokens": TrainableTokens,
    "peft:NAME": AnyPeft,
    "compress": Compress,
    "contrastive": Contrastive,
    "auto": Auto,
}
"""Every method by its name in the config; ``peft:NAME`` stands for whatever else PEFT has, such as ``peft:HIRA``."""

DEFAULT_METHOD: Method = Full()
"""What is taken when none is named."""
