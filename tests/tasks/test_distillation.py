"""The loss of a student: against what torch's distributions say, and as a sum over units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, kl_divergence

from tunesmith.data.encoded import Units
from tunesmith.tasks.causal_lm import CausalLM
from tunesmith.tasks.classification import Classification
from tunesmith.tasks.objectives.distillation import ALONE, SCORES, TOKENS, Distilled, LikeliestTokens
from tunesmith.tasks.regression import Regression

NUM, LABELS, HEAT, MIX = 7, ("a", "b", "c"), 3.0, 0.3

TASKS: dict[str, Any] = {
    "classes": Classification(labels=LABELS, multi_label=False),
    "weighted": Classification(labels=LABELS, multi_label=False, class_weights={"a": 1.0, "b": 2.0, "c": 0.5}),
    "labels": Classification(labels=LABELS, multi_label=True),
    "value": Regression(standardize=True, mean=2.0, std=4.0),
    "vocabulary": CausalLM(form="text"),
}


def scores(seed: int, task: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn((NUM, 1 if task == "value" else len(LABELS)), generator=generator, dtype=torch.float64)


def targets_of(task: str, *, with_alone: bool = False, num_tokens: int = 3) -> dict[str, torch.Tensor]:
    own: Mapping[str, torch.Tensor] = {
        "labels": {"label": (scores(2, "labels") > 0).float()},
        "value": {"label": scores(2, "value")[:, 0].float()},
        "vocabulary": {"labels": scores(2, "vocabulary").argmax(1).int()},
    }.get(task, {"label": scores(2, "classes").argmax(1)})
    said = {SCORES: scores(1, task)}
    if task == "vocabulary":
        said = LikeliestTokens(HEAT, num_tokens, 3).collect(scores(1, task), {}, Units.single(NUM))
        said[SCORES] = said[SCORES].double()
    alone = {ALONE: torch.tensor([0, 1, 0, 0, 1, 0, 0], dtype=torch.uint8)} if with_alone else {}
    return {**own, **said, **alone}


def expected_apart(task: str) -> torch.Tensor:
    """Return [U], from the definitions."""
    student, teacher = scores(0, task), scores(1, task)
    if task == "value":
        return (student - teacher)[:, 0] ** 2
    kind = Bernoulli if task == "labels" else Categorical
    apart = kl_divergence(kind(logits=teacher / HEAT), kind(logits=student / HEAT))
    return HEAT**2 * (apart.sum(1) if task == "labels" else apart)


@pytest.mark.parametrize("task", TASKS)
def test_the_loss_is_the_mixture_of_both(task: str) -> None:
    objective, targets = Distilled(TASKS[task], MIX, HEAT), targets_of(task)
    own = {name: one for name, one in targets.items() if name not in (SCORES, TOKENS)}
    student = scores(0, task).requires_grad_()
    loss = objective.loss_sum(student, targets, Units.single(NUM))
    plain = TASKS[task].loss_sum(scores(0, task), own, Units.single(NUM))
    torch.testing.assert_close(loss, (1 - MIX) * plain + MIX * expected_apart(task).sum(), rtol=1e-6, atol=1e-6)
    loss.backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    num_units = NUM * (3 if task == "labels" else 1)
    of_task = TASKS[task].count_units(own, Units.single(NUM))
    assert objective.count_units(targets, Units.single(NUM)) == pytest.approx((1 - MIX) * of_task + MIX * num_units)


@pytest.mark.parametrize("task", [name for name in TASKS if name != "vocabulary"])
def test_only_the_teacher_speaks_where_there_is_no_label(task: str) -> None:
    objective, targets = Distilled(TASKS[task], MIX, HEAT), targets_of(task, with_alone=True)
    alone = targets[ALONE].bool()
    found = objective.loss_sum(scores(0, task), targets, Units.single(NUM))
    own = {"label": targets["label"][~alone]}
    plain = TASKS[task].loss_sum(scores(0, task)[~alone], own, Units.single(5))
    apart = expected_apart(task)
    expected = (1 - MIX) * plain + MIX * apart[~alone].sum() + apart[alone].sum()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    targets["label"] = torch.where(alone if targets["label"].ndim == 1 else alone[:, None], 0, targets["label"])
    torch.testing.assert_close(objective.loss_sum(scores(0, task), targets, Units.single(NUM)), found)


@pytest.mark.parametrize("with_alone", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_parts_add_up(task: str, with_alone: bool) -> None:
    objective, targets = Distilled(TASKS[task], MIX, HEAT), targets_of(task, with_alone=with_alone)
    parts = [slice(0, 2), slice(2, 5), slice(5, 7)]
    some = [{name: one[part] for name, one in targets.items()} for part in parts]
    sums = [
        objective.loss_sum(scores(0, task)[part], one, Units.single(len(one[SCORES])))
        for part, one in zip(parts, some, strict=True)
    ]
    whole = objective.loss_sum(scores(0, task), targets, Units.single(NUM))
    torch.testing.assert_close(torch.stack(sums).sum(), whole, rtol=1e-9, atol=1e-9)
    counts = [objective.count_units(one, Units.single(len(one[SCORES]))) for one in some]
    assert sum(counts) == pytest.approx(objective.count_units(targets, Units.single(NUM)))


@pytest.mark.parametrize("task", TASKS)
def test_who_says_the_same_as_the_teacher_has_nothing_to_learn_from_it(task: str) -> None:
    student = scores(1, task).requires_grad_()
    loss = Distilled(TASKS[task], 1.0, HEAT).loss_sum(student, targets_of(task), Units.single(NUM))
    assert abs(float(loss.detach())) < 1e-5
    loss.backward()
    assert student.grad is not None
    assert float(student.grad.abs().max()) < 1e-5


def test_fewer_tokens_say_less_than_all_and_never_more() -> None:
    objective = Distilled(TASKS["vocabulary"], 1.0, HEAT)
    found = [
        float(objective.loss_sum(scores(0, "vocabulary"), targets_of("vocabulary", num_tokens=k), Units.single(NUM)))
        for k in (1, 2, 3)
    ]
    assert 0 < found[0] < found[1] <= found[2] * (1 + 1e-6)


def test_tokens_that_the_tokenizer_does_not_know_are_left_out() -> None:
    wide = torch.cat([scores(1, "vocabulary"), torch.full((NUM, 2), 50.0, dtype=torch.float64)], dim=1)
    found = LikeliestTokens(HEAT, 3, 3).collect(wide, {}, Units.single(NUM))
    assert int(found[TOKENS].max()) == 2
    torch.testing.assert_close(found[SCORES].exp().sum(1), torch.ones(NUM))
