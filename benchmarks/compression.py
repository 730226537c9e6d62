"""How large and how quick compressed models are: ``python -m benchmarks.compression [MODEL]``.

Rows of random tokens are scored in the flat layout, as predictions are, by every model in turn, several times; the
median and the quickest pass count. What the models know is not looked at: runs of the method ``compress`` are.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.order import micro_batches
from tunesmith.engine.predict import CPU_TOKENS
from tunesmith.engine.scorer import Scorer
from tunesmith.methods.compress import Compress
from tunesmith.models import Pretrained
from tunesmith.types import HeadSettings

CASES: dict[str, dict[str, Any] | None] = {
    "as it was": None,
    "prune, heads 0.75, units 0.5": {},
    "prune, heads 0.5, units 0.25": {"heads": 0.5, "units": 0.25},
    "whitened, keep 0.5": {"way": "whitened"},
    "whitened, keep 0.25": {"way": "whitened", "keep": 0.25},
}
ROWS, TOKENS, PASSES = 64, 33, 9


class Rows:
    """Rows that a method looks at, all in one batch."""

    num_rows = ROWS

    def __init__(self, model: Any, ids: torch.Tensor) -> None:
        self.model = model
        self.ids = ids

    def batches(self, max_rows: int | None = None) -> Iterator[Rows]:  # noqa: ARG002 (a contract's)
        """Yield them."""
        yield self

    def forward(self) -> None:
        """Run the model."""
        with torch.no_grad():
            self.model(input_ids=self.ids)

    def backward(self) -> None:
        """Do nothing: no gradients are asked for."""

    def classes(self) -> None:
        """Return nothing: the rows have no classes."""

    def vectors(self, model: Any, rows: Any) -> torch.Tensor:
        """Raise: nobody asks for vectors."""
        raise NotImplementedError

    def real(self, states: torch.Tensor) -> torch.Tensor:
        """Return all states: there is no padding."""
        return states.reshape(-1, states.shape[-1])


def compressed(name: str, model_name: str, ids: torch.Tensor) -> torch.nn.Module:
    """Return the model of a case."""
    loaded = Pretrained(name=model_name).load(HeadSettings("AutoModelForSequenceClassification", 2), [], 0)
    whole: torch.nn.Module = loaded.model
    whole.eval()
    options = CASES[name]
    if options is None:
        return whole
    method = Compress(**options)
    model = method.apply(loaded.model)
    method.take_calibration(model, method.calibrate(model, Rows(model, ids)))
    return model


def main() -> None:
    """Print a table of all cases, for the model named or ``sample:minilm``."""
    model_name = sys.argv[1] if len(sys.argv) > 1 else "sample:minilm"
    ids = np.random.default_rng(0).integers(1000, 20000, (ROWS, TOKENS))
    data = Encoded({"input_ids": Ragged.from_rows(list(ids))}, {})
    models = {name: compressed(name, model_name, torch.from_numpy(ids)) for name in CASES}
    passes: dict[str, list[float]] = {name: [] for name in CASES}
    layouts = {}
    scorers = {}
    for name, model in models.items():
        layouts[name], _ = choose_layout(model, "row", 30522, "auto")
        collate = collator_for(model, layouts[name], 0, torch.device("cpu"))
        parts = micro_batches(data, np.arange(ROWS), layouts[name], CPU_TOKENS)
        scorers[name] = Scorer(model, layouts[name], "row"), [collate(data, part) for part in parts]
    for _ in range(PASSES + 1):
        for name, (scorer, batches) in scorers.items():
            began = time.perf_counter()
            with torch.inference_mode():
                for batch in batches:
                    with scorer.surrounding(batch):
                        scorer(batch)
            passes[name].append(time.perf_counter() - began)
    print(f"{torch.get_num_threads()} threads")
    print("| model | parameters | weights | rows a second | at best | layout |")
    print("| --- | ---: | ---: | ---: | ---: | --- |")
    for name, model in models.items():
        number = sum(parameter.numel() for parameter in model.parameters())
        usual, best = ROWS / statistics.median(passes[name][1:]), ROWS / min(passes[name][1:])
        shown = f"{number / 1e6:.1f} M | {4 * number / 1e6:.0f} MB | {usual:.0f} | {best:.0f}"
        print(f"| {name} | {shown} | {layouts[name]} |", flush=True)


if __name__ == "__main__":
    main()
