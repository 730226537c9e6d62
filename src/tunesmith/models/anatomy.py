# mypy: disable-error-code="no-untyped-call"
"""All that is known of a model's architecture, found by structure and by looking rather than by name.

A model is read as a column of depths: the embeddings at the bottom (0), the layers of the
stack above them (1 to L; an encoder-decoder's encoder below its decoder), and the head that
is new for the task at the top (L + 1). Freezing and layer-wise learning rates need only that.

Names are always those of ``named_parameters()`` of the module that was given, a ``PeftModel``
included.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

from torch import nn

from tunesmith.models.facts import Fact, Facts, facts_of
from tunesmith.models.layers import find_layers
from tunesmith.models.observation import Attention, Observed, RowReading, first_decoder_inputs, observe
from tunesmith.models.origin import origin
from tunesmith.models.wrapping import has_virtual_states, inner, join_names, names_inside, plain_name, prefix_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What is known of one model."""

    model: nn.Module
    """The model that was asked about, in its ``PeftModel`` maybe."""
    facts: Facts
    """What was found of it so far."""

    @classmethod
    def of(cls, model: nn.Module) -> Anatomy:
        """Return the anatomy of ``model``.

        What was found before is used again if the model is still what it was: the same modules and parameters by the
        same names, the same configuration and origin. Whatever a method does to a model (wrapping it, adding to it,
        replacing or tying its parts) therefore makes it be looked at anew. Asking walks through all modules; a part
        that is asked in every step keeps the answer.
        """
        return cls(model, facts_of(model))

    @property
    def whole(self) -> PreTrainedModel:
        """The ``transformers`` model itself."""
        return inner(self.model)

    @property
    def base(self) -> nn.Module:
        """The part without the task's head (a model without a head is its own base)."""
        from transformers import PreTrainedModel

        whole = self.whole
        found = cast("nn.Module", getattr(whole, "base_model", whole))
        if found is whole and self.output_embeddings is not None:  # some classes have it by another name than they say
            inside = [child for child in whole.children() if isinstance(child, PreTrainedModel)]
            return inside[0] if len(inside) == 1 else found
        return found

    @property
    def top(self) -> nn.Module:
        """The part whose last hidden states the head reads.

        It is the base or, where only the whole model joins the two stacks of an encoder-decoder (T5), its decoder.
        """
        whole = self.whole
        if self.base is whole and self.is_encoder_decoder and self.output_embeddings is not None:
            return cast("nn.Module", whole.get_decoder())
        return self.base

    @Fact
    def decoder_start(self) -> int | Literal["last"]:
        """What a decoder that writes reads first: a token or, for mBART and its kin, the ``last`` one of the target.

        Seen from what the model itself makes of labels. Raises ``ValueError`` where it is neither.
        """
        found = Context().run(first_decoder_inputs, self.whole)
        (first, first_end), (second, second_end) = found
        if first == second:
            return first
        if (first, second) == (first_end, second_end):
            return "last"
        raise ValueError(f"its decoder begins with {first} where a target ends in {first_end}, else with {second}")

    @property
    def input_embeddings(self) -> nn.Module:
        """The module that has a vector for every token."""
        return self.whole.get_input_embeddings()

    @property
    def output_embeddings(self) -> nn.Module | None:
        """The module that gives a language model's scores over its vocabulary; None for other models."""
        whole = self.whole
        return cast(
            "nn.Module | None", whole.get_output_embeddings() if hasattr(whole, "get_output_embeddings") else None
        )

    @property
    def pooler(self) -> nn.Module | None:
        """The part of the base model that makes one vector of a row's last hidden states, as BERT's does."""
        found = getattr(self.base, "pooler", None)
        return found if isinstance(found, nn.Module) else None

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether there are two stacks."""
        return bool(getattr(self.whole.config, "is_encoder_decoder", False))

    @property
    def max_positions(self) -> int | None:
        """Tokens of the longest row that the configuration speaks of; None where it does not."""
        found = getattr(self.whole.config.get_text_config(), "max_position_embeddings", None)
        return found if isinstance(found, int) else None

    @property
    def position_offset(self) -> int:
        """The position id of a sequence's first token: ``padding_idx + 1`` for RoBERTa and its kin, else 0."""
        embeddings = getattr(self.base, "embeddings", None)
        counts_from_padding = hasattr(embeddings, "create_position_ids_from_input_ids")
        padding_idx = getattr(embeddings, "padding_idx", None)
        return int(padding_idx) + 1 if counts_from_padding and padding_idx is not None else 0

    @Fact
    def head_modules(self) -> tuple[str, ...]:
        """The names of the topmost modules, within ``whole``, of which the head consists.

        What leads to a language model's vocabulary (``lm_head``, or BERT's ``cls`` with its tied decoder) is
        no task head: it was pretrained with the rest. ``new_modules`` finds the parts of it that were not.
        """
        whole, base = self.whole, self.base
        if base is whole or self.output_embeddings is not None:
            return ()
        return tuple(
            name
            for name, child in whole.named_children()
            if child is not base and next(child.parameters(), None) is not None
        )

    @Fact
    def tied_modules(self) -> tuple[str, ...]:
        """The names, within ``whole``, of modules whose weight another module has too.

        Usually the token embeddings and the output layer of a language model.
        """
        found: dict[int, list[str]] = {}
        for name, module in self.whole.named_modules():
            weight = module._parameters.get("weight")  # an adapter's layer passes its base's on as its own
            if weight is not None:
                found.setdefault(id(weight), []).append(name)
        return tuple(name for names in found.values() if len(names) > 1 for name in names)

    @Fact
    def new_modules(self) -> tuple[str, ...]:
        """The head's modules and any others in ``whole`` whose weights were all initialised here.

        BERT's pooler is an example: many checkpoints hold it, those trained on tokens alone do not.
        """
        whole = self.whole
        known = origin(whole)
        new = known.new_parameters if known else frozenset()
        found = list(self.head_modules)

        def walk(name: str, module: nn.Module) -> None:
            if name in found:
                return
            names = [plain_name(join_names(name, key)) for key, _ in module.named_parameters()]
            if name and names and new.issuperset(names):
                found.append(name)
                return
            for key, child in module.named_children():
                walk(join_names(name, key), child)

        if new:
            walk("", whole)
        return tuple(found)

    @Fact
    def head_parameter_names(self) -> tuple[str, ...]:
        """The parameters that exist for the task: the head's, and others whose weights are new."""
        whole = self.whole
        owned = {id(parameter) for name in self.new_modules for parameter in whole.get_submodule(name).parameters()}
        known = origin(whole)
        if known and known.new_parameters:
            new = known.new_parameters
            owned |= {id(parameter) for name, parameter in whole.named_parameters() if plain_name(name) in new}
        return tuple(name for name, parameter in self.model.named_parameters() if id(parameter) in owned)

    @Fact
    def loose_parameter_names(self) -> tuple[str, ...]:
        """The new parameters, by their names in ``whole``, that are in none of ``new_modules``.

        The output bias of a masked language model is one when the checkpoint came without such a head: it
        stands beside a decoder whose weight is the embeddings' and is not new.
        """
        within = tuple(f"{name}." for name in self.new_modules)
        inside = names_inside(self.model)
        found = (inside[name] for name in self.head_parameter_names)
        return tuple(name for name in found if not name.startswith(within or ("\0",)))

    @Fact
    def layers(self) -> tuple[tuple[int, str], ...]:
        """(index, module prefix) of every layer of the transformer stack, from the bottom up (``find_layers``)."""
        return find_layers(self.base, prefix_of(self.model, self.base))

    @property
    def num_layers(self) -> int:
        """L: how many layers there are."""
        return max((index for index, _ in self.layers), default=-1) + 1

    @property
    def layer_modules(self) -> tuple[nn.Module, ...]:
        """The modules of ``layers`` that are called to compute; a list whose members are called one by one is not."""
        found = (self.model.get_submodule(name) for _, name in self.layers)
        return tuple(layer for layer in found if not isinstance(layer, (nn.ModuleList, nn.ModuleDict)))

    @property
    def column(self) -> tuple[nn.Module, ...]:
        """One module for every layer, each of which reads what the one below it gives; empty where that is not so.

        An encoder-decoder has no such column, since its upper stack reads both inputs, and neither have modules that
        compute side by side.
        """
        layers = self.layer_modules
        one_each = [index for index, _ in self.layers] == list(range(len(layers)))
        return layers if one_each and not self.is_encoder_decoder else ()

    @property
    def can_recompute(self) -> bool:
        """Whether there are layers that can be run again for the backward pass: without a cache, as they will be."""
        allowed = bool(getattr(self.whole, "supports_gradient_checkpointing", False))
        return allowed and bool(self.layer_modules) and not has_virtual_states(self.model)

    @Fact
    def depths(self) -> Mapping[str, int]:
        """The depth of every parameter: 0 for embeddings, 1 to L for layers, L + 1 for the head.

        What stands between has the depth of the layer below it (a final norm, a pretrained pooler).
        """
        model, whole = self.model, self.whole
        prefixes = [(f"{prefix}.", index + 1) for index, prefix in self.layers]
        top = max((depth for _, depth in prefixes), default=0) + 1
        head = set(self.head_parameter_names)
        embeddings = {
            join_names(name, key)
            for name, module in model.named_modules()
            if isinstance(module, nn.Embedding)
            for key, _ in module.named_parameters()
        }
        depths: dict[str, int] = {}
        below = 0
        outside = {id(parameter) for parameter in whole.parameters()}
        outside -= {id(parameter) for parameter in self.base.parameters()}
        start = prefix_of(model, whole)
        for name, parameter in model.named_parameters():
            within = next((depth for prefix, depth in prefixes if name.startswith(prefix)), None)
            if name in head:
                depths[name] = top
            elif within is not None:
                depths[name] = below = within
            elif id(parameter) in outside:
                depths[name] = top - 1  # a pretrained output layer, not the task's own
            elif name in embeddings or "embed" in name.rpartition(".")[0].removeprefix(start):
                depths[name] = 0
            else:
                depths[name] = below
        return depths

    @Fact
    def is_decayed(self) -> Mapping[str, bool]:
        """For every parameter, whether weight decay applies: not to biases, norms and other vectors."""
        exempt: set[int] = set()
        for module in self.model.modules():
            if "norm" in type(module).__name__.lower():
                exempt.update(id(parameter) for parameter in module.parameters(recurse=False))
        return {
            name: parameter.ndim >= 2 and id(parameter) not in exempt and not name.endswith("bias")
            for name, parameter in self.model.named_parameters()
        }

    @property
    def linear_modules(self) -> dict[str, nn.Module]:
        """Every matrix multiplication of the base model by its name in ``whole``: Linear and GPT-2's Conv1D.

        Modules that are new for the task and output embeddings are left out.
        """
        output = self.output_embeddings
        new = tuple(f"{name}." for name in self.new_modules)
        return {
            name: module
            for name, module in self.whole.named_modules()
            if is_linear(module) and module is not output and not f"{name}.".startswith(new or ("\0",))
        }

    @Fact
    def _observed(self) -> Observed:
        """What a short row shows, whatever surrounds the pass in which somebody asks."""
        return Context().run(observe, self.whole, self.top)

    @property
    def hidden_size(self) -> int:
        """D: numbers of one of the base model's last hidden states."""
        return self._observed.hidden_size

    @property
    def row_reading(self) -> RowReading | None:
        """What of a row's last hidden states the head reads; None where it scores no rows, or reads in another way."""
        return self._observed.row_reading

    @property
    def windows(self) -> frozenset[int]:
        """How far tokens see at most, in tokens, wherever that is limited: windows and chunks of any layer or mask."""
        told = {one.window for one in self._observed.attentions.values() if one.window is not None}
        return self._observed.masked | told

    @property
    def tells_windows(self) -> bool:
        """Whether every limit of the model's own masks is told to attention, which may then do without the masks.

        Of causal models alone: others count their windows in two ways.
        """
        told = {one.window for one in self._observed.attentions.values()}
        return self._observed.masked <= told

    def attentions_in(self, layer: nn.Module) -> list[Attention]:
        """Return what the attention modules of one of the model's layers tell the function that attends for them."""
        return [self._attention_of[module] for module in layer.modules() if module in self._attention_of]

    @cached_property
    def _attention_of(self) -> dict[nn.Module, Attention]:
        return {self.whole.get_submodule(name): one for name, one in self._observed.attentions.items()}

    def describe(self) -> dict[str, Any]:
        """Return what a run records of a model's architecture. JSON-ready."""
        return {
            "architecture": type(self.whole).__name__,
            "model_type": str(getattr(self.whole.config, "model_type", "")),
            "num_layers": self.num_layers,
        }


def is_linear(module: nn.Module) -> bool:
    """Say whether a module is a matrix multiplication that an adapter can stand beside."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, (nn.Linear, Conv1D))
