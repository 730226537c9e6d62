"""A model whose weights lie in parts over ranks: torch's FSDP2 around every layer, and around all that is in none.

A rank holds an equal part of each weight. A layer is put together from the parts of all ranks when it computes, in the
forward pass and again in the backward pass, and falls apart afterwards; its gradients are summed and each rank keeps
those of its part (ZeRO stage 3, Rajbhandari et al. 2020; FSDP, Zhao et al. 2023). What belongs to no layer, which is
the embeddings and the head, is whole from the beginning of a pass to the end of its backward pass.

Whatever computes with the weights does so by ``Sharding``, and all ranks do it at the same time. Weights that are still
in files (``models.streaming``) are read layer by layer as they are divided, no further than this rank's part of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from tunesmith.engine import ranks
from tunesmith.engine.sharding.parts import Parts, is_divided, local_part
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.facts import hold_facts, let_facts_go
from tunesmith.models.streaming import stream_of, tensors_of

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

LAYERS_AT_ONCE = 3
"""How many layers are whole at once: one that computes, the next one on its way, and what has just arrived."""


class _Root(nn.Module):
    """Whatever is computed with a model's weights, as one module's forward pass.

    The engine calls parts of a model one by one (its base, then its head), and FSDP2 takes care of what happens between
    the beginning and the end of a call of the outermost module.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[[], Any]) -> Any:
        return compute()


class Sharding:
    """The weights of one model, in parts."""

    def __init__(self, model: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        """Divide the weights of ``model``, which every rank has whole, or in files, until now: each keeps its part.

        Args:
            model: Its trained weights are in the optimizer's format, or in files; its frozen ones in that of the
                computation.
            device: Where the parts are to lie.
            dtype: The numbers in which trained weights compute.
        """
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        self._model = model
        self.passing_bytes = _passing_bytes(model, dtype)
        """What is whole for a while, weights and gradients, besides a rank's own part of all."""
        mesh = init_device_mesh(device.type, (ranks.size(),))
        is_short = dtype in (torch.bfloat16, torch.float16)
        policy = MixedPrecisionPolicy(
            param_dtype=dtype if is_short else None,
            reduce_dtype=torch.float32 if is_short else None,
            cast_forward_inputs=False,  # they are what they are without sharding
        )
        self._layers: list[Any] = _own_layers(model)
        Anatomy.of(model).hidden_size  # noqa: B018 (what takes a pass to be known has to be asked of whole weights)
        hold_facts(model)
        self._files = _Files(model, device)
        self._signs: list[RemovableHandle] = []
        sign = ranks.sign()
        for layer in self._layers:
            with self._files.read(list(layer.parameters())):
                fully_shard(layer, mesh=mesh, mp_policy=policy)
            self._signs += [
                layer.register_forward_pre_hook(lambda *_: sign(), prepend=True),
                layer.register_forward_hook(partial(_will_sign, sign), prepend=True),
            ]
        self._root = cast("Any", _Root(model))
        with self._files.read([one for one in model.parameters() if not is_divided(one)]):
            fully_shard(self._root, mesh=mesh, mp_policy=policy)
        for module in self._all:
            module.set_gradient_divide_factor(1.0)  # losses are divided by the units of all ranks already
            module.set_force_sum_reduction_for_comms(True)
        self._root(lambda: None)  # it has to be the first: that makes it the root
        self._root.reset_iter_state()

    @property
    def _all(self) -> list[Any]:
        return [*self._layers, self._root]

    def __call__(self, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Return what ``compute`` gives, to be differentiated."""
        with _views_allowed():
            found: torch.Tensor = self._root(lambda: _own(compute()))
        return found

    @contextmanager
    def at_hand(self) -> Iterator[None]:
        """Let passes be made inside the block of which nothing is differentiated; layers are whole as they compute."""
        with ranks.passing():
            self._root.unshard()
        try:
            with _views_allowed(), ranks.passing():
                yield
        finally:
            self._root.reset_iter_state()

    def end(self, *, may_stream: bool) -> None:
        """Make the model plain again on the first rank, all weights whole; on the others it is of no use any more.

        Weight by weight, so that no rank but the first ever has more of it than one. Frozen weights that came from
        files are there again: in memory, or streamed if that ``may`` be.
        """
        new: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}  # with the old one, whose id is then no other's
        for module in self._model.modules():
            for name, old in list(module._parameters.items()):
                if old is None:
                    continue
                if (frozen := self._files.frozen.get((module, name))) is not None:
                    setattr(module, name, frozen)
                    continue
                if id(old) not in new:
                    whole = Parts.of(old.shape).whole_of(local_part(old))
                    new[id(old)] = (old, old if whole is None else nn.Parameter(whole, old.requires_grad))
                setattr(module, name, new[id(old)][1])
        for sign in self._signs:
            sign.remove()
        for module in self._all:
            _forget_fsdp(module)
        if ranks.is_first():
            self._files.end(self._model, may_stream=may_stream)
        let_facts_go(self._model)


class _Files:
    """The weights of a model that are in files, if any are: there for as long as their parts are made of them."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._stream, self._device = stream_of(model), device
        self._stored = {} if self._stream is None else self._stream.stand_aside(model)
        self.frozen = {
            (module, name): parameter
            for module in model.modules()
            for name, parameter in module._parameters.items()
            if parameter is not None and parameter in self._stored and not parameter.requires_grad
        }
        """By where they are in the model: what is frozen need not be put together in the end."""

    @contextmanager
    def read(self, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
        """Let weights be what they are in the block, those in files, too: trained ones in the optimizer's format."""
        before = {one: one.data for one in parameters if one in self._stored}
        for one in parameters:
            if one not in before:
                one.data = one.data.contiguous()
                continue
            dtype = torch.float32 if one.requires_grad else one.dtype
            one.data = self._stored[one].tensor().to(self._device, dtype)  # where both are so already: mapped
        yield
        for one, data in before.items():
            one.data = data
            self._stored[one].give_back()

    def end(self, model: nn.Module, *, may_stream: bool) -> None:
        """Let what is frozen be in memory again, or streamed."""
        frozen = set(self.frozen.values())
        if self._stream is not None and frozen and may_stream:
            self._stream.come_back(model, frozen)
            return
        for one in frozen:
            one.data = self._stored[one].tensor().to(self._device, one.dtype, copy=True)


def _will_sign(sign: Callable[[], None], _module: nn.Module, _given: Any, output: Any) -> None:
    """Let the other ranks know before the backward pass of a layer, too, for which it is put together again."""
    for tensor in tensors_of(output):
        if tensor.requires_grad:
            tensor.register_hook(lambda _gradient: sign())  # type: ignore[no-untyped-call]


def _own_layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers that can be whole by themselves: those whose weights belong to nothing else."""
    layers = list(dict.fromkeys(Anatomy.of(model).layer_modules))
    users: dict[int, set[int]] = {}
    inside = {id(module): number for number, layer in enumerate(layers) for module in layer.modules()}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            users.setdefault(id(parameter), set()).add(inside.get(id(module), -1))
    return [layer for layer in layers if all(len(users[id(one)]) == 1 for one in layer.parameters())]


def _passing_bytes(model: nn.Module, dtype: torch.dtype) -> int:
    """Return the bytes of what is whole at once: weights of the root and of some layers, and their gradients."""

    def of(parameters: list[nn.Parameter]) -> int:
        weights = sum(one.numel() * min(one.element_size(), dtype.itemsize) for one in parameters)
        trained = sum(one.numel() for one in parameters if one.requires_grad)
        return weights + trained * max(dtype.itemsize, 4)

    layers = [list(layer.parameters()) for layer in _own_layers(model)]
    within = {id(one) for layer in layers for one in layer}
    root = [one for one in model.parameters() if id(one) not in within]
    return of(root) + LAYERS_AT_ONCE * max(map(of, layers), default=0)


def _own(found: torch.Tensor) -> torch.Tensor:
    """Return a tensor that is no view of another, or has no gradient: it is marked where its backward pass begins."""
    return found.clone() if found.requires_grad and found._base is not None else found


@contextmanager
def _views_allowed() -> Iterator[None]:
    """Hold back torch's word on layers that return views, which nobody here writes to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
        yield


def _forget_fsdp(module: Any) -> None:
    """Take away what ``fully_shard`` has put onto a module, for which torch has no function of its own."""
    from torch.distributed._composable.contract import REGISTRY_KEY, STATE_KEY

    state = module._get_fsdp_state()
    handles = [state._pre_forward_hook_handle, state._post_forward_hook_handle]
    for group in state._fsdp_param_groups:
        handles += group._module_to_pre_save_state_dict_hook_handle.values()
        handles += group._module_to_pre_load_state_dict_hook_handle.values()
        handles += [one._post_load_hook_handle for one in group.fsdp_params]
    for handle in handles:
        handle.remove()
    for one in module.modules():
        for name in ("_is_fsdp_managed_module", "_fsdp_use_orig_params"):
            vars(one).pop(name, None)
    for key in (REGISTRY_KEY, STATE_KEY):
        vars(module).pop(key, None)
    module.__class__ = type(module).__mro__[type(module)._orig_cls_mro_index]
