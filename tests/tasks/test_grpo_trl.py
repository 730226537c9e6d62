"""The same loss as TRL's trainer gives of the same answers and advantages."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from chats import chat_tokenizer, columns_of, user
from tiny import tiny_model
from tunesmith.data.encoded import Encoded, Ragged, as_ragged
from tunesmith.engine.batch import Collator
from tunesmith.engine.losses import loss_sum
from tunesmith.engine.predict import predict
from tunesmith.engine.scorer import Scorer
from tunesmith.tasks.grpo import GRPO
from tunesmith.tasks.objective import Written

TOKENIZER = chat_tokenizer("chatml")
ASKED = ["What is 3?", "And é, is it known?"]
ANSWERS = [["3", "no 4", "it is 3 of them", "a 5"], ["12", "I say 11 and 12", "é", "none of these at all"]]
REFERENCES = ["3", "12"]


def model(seed: int) -> Any:
    ids = {name: getattr(TOKENIZER, name) for name in ("pad_token_id", "eos_token_id", "bos_token_id")}
    sizes = {"vocab_size": len(TOKENIZER), "max_position_embeddings": 256}
    return tiny_model("llama", head="causal", dtype=torch.float32, seed=seed, **sizes, **ids)


def lesson(task: GRPO) -> tuple[GRPO, Encoded]:
    turns = [
        [user(asked), {"role": "assistant", "content": reference}]
        for asked, reference in zip(ASKED, REFERENCES, strict=True)
    ]
    columns = columns_of(turns)
    task = task.bind(columns)
    data = task.encode(columns, TOKENIZER, 200)
    texts = [text for group in ANSWERS for text in group]
    tokens = [TOKENIZER(text, add_special_tokens=False)["input_ids"] + [TOKENIZER.eos_token_id] for text in texts]
    return task, task.lesson(data, np.arange(2), Written(tokens, texts, [False] * 8), is_learned=True).data


def said(seed: int, objective: Any, data: Encoded) -> Encoded:
    found = predict(Scorer(model(seed), "padded", "token"), Collator("padded", 0), objective, data, 10_000).outputs
    offsets = as_ragged(data.reads).offsets
    return data.with_targets({name: Ragged(as_ragged(one).values, offsets) for name, one in found.items()})


def our_loss(task: GRPO, *, old: int | None) -> float:
    task, data = lesson(task)
    if task.reference is not None:
        data = said(1, task.reference, data)
    if old is not None:
        data = said(old, task.at_drawing, data)
    scorer, batch = Scorer(model(0), "padded", "token"), Collator("padded", 0)(data, np.arange(len(data)))
    with scorer.surrounding(batch):
        return float(loss_sum(scorer, task, batch).detach()) / task.count_units(batch.targets, batch.units)


def padded(rows: list[list[int]], *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, rows))
    fill = [[0] * (longest - len(row)) for row in rows]
    ids = [[*space, *row] if left else [*row, *space] for row, space in zip(rows, fill, strict=True)]
    mask = [
        [*space, *[1] * len(row)] if left else [*[1] * len(row), *space] for row, space in zip(rows, fill, strict=True)
    ]
    return torch.tensor(ids), torch.tensor(mask)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import trl
    from datasets import Dataset, disable_progress_bars, enable_progress_bars

    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            args = trl.GRPOConfig(
                output_dir=str(tmp_path_factory.mktemp("grpo")),
                per_device_train_batch_size=8,
                num_generations=4,
                use_cpu=True,
                bf16=False,
                report_to=[],
                gradient_checkpointing=False,
                disable_tqdm=True,
            )
            return trl.GRPOTrainer(
                model=model(0),
                reward_funcs=lambda completions, **_: [0.0] * len(completions),
                args=args,
                processing_class=chat_tokenizer("chatml"),
                train_dataset=Dataset.from_list([{"prompt": asked} for asked in ASKED]),
            )
    finally:
        enable_progress_bars()


def their_loss(trainer: Any, task: GRPO, *, old: int | None) -> float:
    task, data = lesson(task)
    ids, reads = as_ragged(data.inputs["input_ids"]), as_ragged(data.reads)
    rows = [ids[index].tolist() for index in range(len(ids))]
    starts = [int(reads[index][0]) + 1 for index in range(len(ids))]
    prompt_ids, prompt_mask = padded([row[:start] for row, start in zip(rows, starts, strict=True)], left=True)
    answer_ids, answer_mask = padded([row[start:] for row, start in zip(rows, starts, strict=True)], left=False)

    def of(seed: int) -> torch.Tensor:
        logits = model(seed)(
            input_ids=torch.cat([prompt_ids, answer_ids], 1), attention_mask=torch.cat([prompt_mask, answer_mask], 1)
        ).logits[:, -answer_ids.shape[1] - 1 : -1]
        return (logits / task.temperature).log_softmax(-1).gather(2, answer_ids[..., None])[..., 0]

    trainer.beta, trainer.epsilon_low, trainer.epsilon_high = task.beta, task.clip_low, task.clip_high
    trainer.args.use_bias_correction_kl = task.corrects_kl
    trainer.loss_type = "dapo" if task.per == "token" else "grpo"
    inputs = {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": answer_ids,
        "completion_mask": answer_mask,
        "advantages": torch.tensor(
            [float(as_ragged(data.targets["advantage"])[index][0]) for index in range(8)], dtype=torch.float32
        ),
        "num_items_in_batch": answer_mask.sum(),
    }
    trainer.model.eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if task.beta:
            inputs["ref_per_token_logps"] = of(1)
        if old is not None:
            inputs["old_per_token_logps"] = of(old)
        return float(trainer._compute_loss(trainer.model, inputs))


@pytest.mark.parametrize("per", ["token", "answer"])
@pytest.mark.parametrize(
    ("settings", "old"),
    [
        ({"beta": 0.0}, None),
        ({"beta": 0.3}, None),
        ({"beta": 0.0}, 2),
        ({"beta": 0.1, "clip_low": 0.1, "clip_high": 0.28}, 2),
        ({"beta": 0.1, "scale": False}, 2),
        ({"beta": 0.4, "corrects_kl": True}, 2),
    ],
)
def test_the_loss_is_that_of_the_grpo_trainer(
    trainer: Any, per: Any, settings: dict[str, Any], old: int | None
) -> None:
    task = GRPO(
        rewards=["number", {"by": "length", "most": 5, "margin": 9, "weight": 0.3}],
        max_new_tokens=60,
        per=per,
        **settings,
    )
    ours, theirs = our_loss(task, old=old), their_loss(trainer, task, old=old)
    sums_to_nothing = per == "answer" and old is None and not task.beta  # advantages of a group do
    assert abs(theirs) > 1e-4 or sums_to_nothing
    assert ours == pytest.approx(theirs, abs=1e-6)
