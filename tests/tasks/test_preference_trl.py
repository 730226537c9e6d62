"""The same losses, of the same tokens, as TRL's trainers give on the same batch."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from chats import assistant, chat_tokenizer, user
from preferences import columns_of_answers
from tiny import tiny_model
from tunesmith.data.encoded import Ragged, as_ragged
from tunesmith.engine.batch import Collator
from tunesmith.engine.losses import loss_sum
from tunesmith.engine.predict import predict
from tunesmith.engine.scorer import Scorer
from tunesmith.tasks import Preference
from tunesmith.tasks.objectives import preference as objectives
from tunesmith.tasks.objectives.preference import Answers

ASKED = [f"What is {i}?" for i in range(4)]
GOOD = [f"é{i} " + "ok" * i for i in range(4)]  # short: what float32 rounds off grows with sums over tokens, and beta
BAD = ["no" * (i + 1) for i in range(4)]
TOKENIZER = chat_tokenizer("chatml")


def model(seed: int) -> Any:
    ids = {name: getattr(TOKENIZER, name) for name in ("pad_token_id", "eos_token_id", "bos_token_id")}
    sizes = {"vocab_size": len(TOKENIZER), "max_position_embeddings": 256}
    return tiny_model("llama", head="causal", dtype=torch.float32, seed=seed, **sizes, **ids)


def our_loss(task: Preference, rows: list[tuple[list[Any], list[list[Any]], list[int]]], **noted: Any) -> float:
    columns = columns_of_answers(rows)
    task = task.bind(columns)
    encoded = task.encode(columns, chat_tokenizer("chatml"), 256)
    collate = Collator("padded", TOKENIZER.pad_token_id)
    if task.reference is not None:
        said = predict(Scorer(model(1), "padded", "token"), collate, task.reference, encoded, 10_000).outputs
        values = as_ragged(said["reference"]).values
        encoded = encoded.with_targets({"reference": Ragged(values, as_ragged(encoded.reads).offsets)})
    noted["encoded"] = encoded
    scorer, batch = Scorer(model(0), "padded", "token"), collate(encoded, np.arange(len(encoded)))
    with scorer.surrounding(batch):
        return float(loss_sum(scorer, task, batch).detach()) / task.count_units(batch.targets, batch.units)


def trainer(kind: str, rows: list[dict[str, Any]], folder: Path) -> Any:
    import trl
    from datasets import Dataset, disable_progress_bars, enable_progress_bars

    settings = {"per_device_train_batch_size": len(rows), "use_cpu": True, "bf16": False, "report_to": []}
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            args = getattr(trl, f"{kind}Config")(
                output_dir=str(folder), max_length=None, gradient_checkpointing=False, disable_tqdm=True, **settings
            )
            return getattr(trl, f"{kind}Trainer")(
                model=model(0),
                ref_model=model(1),
                args=args,
                processing_class=chat_tokenizer("chatml"),
                train_dataset=Dataset.from_list(rows),
            )
    finally:
        enable_progress_bars()


def their_loss(trained: Any) -> float:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        (batch,) = trained.get_train_dataloader()
        return float(trained._compute_loss(trained.model, batch, False))


@pytest.fixture(scope="module")
def dpo(tmp_path_factory: pytest.TempPathFactory) -> Any:
    rows = [
        {"prompt": [user(ASKED[i])], "chosen": [assistant(GOOD[i])], "rejected": [assistant(BAD[i])]} for i in range(4)
    ]
    return trainer("DPO", rows, tmp_path_factory.mktemp("dpo"))


PAIRS = [([user(ASKED[i])], [[assistant(GOOD[i])], [assistant(BAD[i])]], [0, 1]) for i in range(4)]


@pytest.mark.parametrize(
    ("loss", "settings"),
    [
        ("sigmoid", {}),
        ("sigmoid", {"beta": 0.05}),
        ("sigmoid_norm", {"beta": 5.0}),
        ("ipo", {"beta": 0.3}),
        ("hinge", {}),
        ("robust", {"label_smoothing": 0.2}),
    ],
)
def test_losses_of_pairs_are_those_of_the_dpo_trainer(dpo: Any, loss: Any, settings: dict[str, float]) -> None:
    dpo.loss_types, dpo.beta = [loss], settings.get("beta", 0.1)
    dpo.label_smoothing = settings.get("label_smoothing", 0.0)
    assert our_loss(Preference(loss=loss, **settings), PAIRS) == pytest.approx(their_loss(dpo), abs=1e-6)


def test_kto_is_that_of_the_kto_trainer(tmp_path: Path) -> None:
    rows = [
        {"prompt": [user(ASKED[i])], "completion": [assistant((GOOD, BAD)[i % 2][i])], "label": i % 2 == 0}
        for i in range(4)
    ]
    kto = trainer("KTO", rows, tmp_path)
    thumbs = [([user(ASKED[i])], [[assistant((GOOD, BAD)[i % 2][i])]], [i % 2]) for i in range(4)]
    for beta, good, bad in [(0.1, 1.0, 1.0), (0.5, 1.3, 0.7)]:
        kto.beta, kto.desirable_weight, kto.undesirable_weight = beta, good, bad
        task = Preference(beta=beta, desirable_weight=good, undesirable_weight=bad)
        assert our_loss(task, thumbs) == pytest.approx(their_loss(kto), abs=1e-6)


def sides() -> list[Answers]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([[3.0, 9, 20, 1, 7], [5, 5, 2, 30, 4]])
    means = -torch.rand(2, 5, generator=generator) * torch.tensor([1e-3, 0.1, 1.0, 5.0, 20.0])
    return [Answers(*one) for one in zip(means * lengths, torch.zeros(2, 5), lengths, strict=True)]


def test_simpo_is_that_of_the_cpo_trainer() -> None:
    better, worse = sides()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl.experimental.cpo import CPOTrainer
    for smoothing in (0.0, 0.1):
        settings: Any = SimpleNamespace(
            alpha=0.0, loss_type="simpo", beta=2.0, simpo_gamma=1.4, label_smoothing=smoothing
        )
        settings.accelerator = SimpleNamespace(device="cpu")
        theirs, _, _ = CPOTrainer.cpo_loss(settings, better.mean, worse.mean)
        ours = objectives.pair_losses("simpo", better, worse, beta=2.0, gamma=1.4, label_smoothing=smoothing)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_orpo_is_the_answers_own_loss_and_the_odds_of_the_orpo_trainer() -> None:
    better, worse = sides()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl.experimental.orpo import ORPOTrainer
    settings: Any = SimpleNamespace(beta=0.3, accelerator=SimpleNamespace(device="cpu"))
    theirs = ORPOTrainer.odds_ratio_loss(settings, better.mean, worse.mean)[0]
    ours = objectives.pair_losses("orpo", better, worse, beta=0.3)
    torch.testing.assert_close(ours, -better.mean - theirs, rtol=1e-6, atol=1e-6)
