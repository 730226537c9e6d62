"""Where the layers of a model are, found by structure: lists of modules, whatever they are called."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from tunesmith.models.wrapping import join_names


def find_layers(base: nn.Module, start: str) -> tuple[tuple[int, str], ...]:
    """Return (index, module prefix) of every layer of a transformer stack, from the bottom up.

    Layers are the members of the outermost ``ModuleList``s of the base model, whose own prefix is ``start``. Two stacks
    (encoder and decoder) are counted on; lists side by side in one module and of one length are pieces of
    the same layers, so that an index may come with several prefixes. A list of single operations
    (the parallel convolutions of a TextCNN) is one layer; a list of embeddings is none.
    """
    found: list[tuple[int, str]] = []
    count = 0
    for parent, lists in _stacks(base, start):
        for length in dict.fromkeys(len(members) for _, members in lists):
            pieces = [(name, members) for name, members in lists if len(members) == length]
            inside = [member for _, members in pieces for member in members]
            if all(isinstance(member, nn.Embedding) for member in inside):
                continue
            if all(next(member.children(), None) is None for member in inside):
                found += [(count, join_names(parent, name)) for name, _ in pieces]
                count += 1
                continue
            for index in range(length):
                found += [(count + index, f"{join_names(parent, name)}.{index}") for name, _ in pieces]
            count += length
    return tuple(found)


def _stacks(base: nn.Module, start: str) -> Iterator[tuple[str, list[tuple[str, nn.ModuleList]]]]:
    """Yield every module that holds ``ModuleList``s, with them, never looking inside one."""

    def walk(name: str, module: nn.Module) -> Iterator[tuple[str, list[tuple[str, nn.ModuleList]]]]:
        lists = [(key, child) for key, child in module.named_children() if isinstance(child, nn.ModuleList)]
        lists = [(key, child) for key, child in lists if len(child)]
        if lists:
            yield name, lists
        for key, child in module.named_children():
            if not isinstance(child, nn.ModuleList):
                yield from walk(join_names(name, key), child)

    yield from walk(start, base)
