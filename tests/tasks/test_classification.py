from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn import metrics as sk
from torch.nn import functional

from tunesmith.data.encoded import Units
from tunesmith.tasks import Classification
from tunesmith.tasks.labels import label_name, sorted_labels
from tunesmith.types import InputError


def bound(label: list, **settings) -> Classification:
    return Classification(**settings).bind({"text": ["t"] * len(label), "label": label})


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (1, "1"), ("1", "1"), (1.0, "1"), (np.int64(1), "1"), (np.float32(1), "1"), (True, "true"),
        (np.False_, "false"), (0.5, "0.5"), (" a b ", "a b"), (None, ""), (float("nan"), ""), (" ", ""), (-3, "-3"),
    ],
)  # fmt: skip
def test_label_names(value: object, name: str) -> None:
    assert label_name(value) == name


def test_labels_are_sorted_by_value_or_alphabet() -> None:
    assert sorted_labels(["10", "2", "1", "2"]) == ("1", "2", "10")
    assert sorted_labels(["10", "2", "a"]) == ("10", "2", "a")
    assert sorted_labels(["1.5", "-1", "0"]) == ("-1", "0", "1.5")
    assert sorted_labels(["true", "false"]) == ("false", "true")
    assert sorted_labels(["nan", "inf", "b"]) == ("b", "inf", "nan")


def test_numbers_and_text_are_the_same_label() -> None:
    task = bound([1, "1", 0, 0.0])
    assert task.labels == ("0", "1")
    np.testing.assert_array_equal(task.targets({"label": ["1", 1.0, "0", 0]})["label"], [1, 1, 0, 0])


@pytest.mark.parametrize(
    ("cells", "multi_label", "labels"),
    [
        (["a", "b", "a|b", "b|a", "a"], True, ("a", "b")),
        (["joy; fear", "fear", "joy", "joy; anger", "anger"], True, ("anger", "fear", "joy")),
        (["news, world", "sport, local", "news, world", "sport, local"], False, ("news, world", "sport, local")),
        (["yes", "no"], False, ("no", "yes")),
        ([["a"], ["b"]], True, ("a", "b")),
        ([[], ["b"], np.array(["a", "b"])], True, ("a", "b")),
        ([("1", 2)], True, ("1", "2")),
    ],
)
def test_several_labels_are_seen(cells: list, multi_label: bool, labels: tuple[str, ...]) -> None:
    task = bound(cells)
    assert task.multi_label is multi_label
    assert task.labels == labels


def test_given_settings_are_kept() -> None:
    assert bound(["a", "b", "a|b", "b|a"], multi_label=False).labels == ("a", "a|b", "b", "b|a")
    assert bound(["b", "a"], labels=["b", "a", "c"]).labels == ("b", "a", "c")
    assert bound(["1/2", "1"], multi_label=True, delimiter="/").labels == ("1", "2")
    task = bound(["x;y", "x"], labels=["y", "x"], multi_label=True)
    np.testing.assert_array_equal(task.targets({"label": ["x;y", "x", ""]})["label"], [[1, 1], [0, 1], [0, 0]])


def test_no_labels_are_refused() -> None:
    with pytest.raises(InputError, match="no labels"):
        bound(["", None])


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels": ["a", "a"]},
        {"labels": []},
        {"labels": ["a", ""]},
        {"class_weights": {"a": -1.0}},
        {"class_weights": [0.0, 0.0]},
        {"class_weights": "unbalanced"},
        {"label_smoothing": 1.0},
        {"label_smoothing": 0.1, "focal_gamma": 2.0},
        {"threshold": 0.0},
    ],
)
def test_wrong_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        Classification(**wrong)


def test_yaml_numbers_are_label_names() -> None:
    task = Classification(labels=[0, 1], class_weights={0: 1, 1: 3})
    assert task.labels == ("0", "1")
    assert task.class_weights == {"0": 1.0, "1": 3.0}
    assert Classification(labels=[True, False]).labels == ("true", "false")


def test_weights_have_to_fit_the_labels() -> None:
    assert bound(["a", "b", "b"], class_weights={"b": 3}).class_weights == {"a": 1.0, "b": 3.0}
    with pytest.raises(InputError, match="2 weights for 3 labels"):
        bound(["a", "b", "c"], class_weights=[1, 2])
    with pytest.raises(InputError, match=r"'goood'[\s\S]*Did you mean 'good'"):
        bound(["good", "bad"], class_weights={"goood": 1})


def test_balanced_weights_equal_sklearn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    label = ["a"] * 3 + ["b"] * 5 + ["c"]
    task = bound(label, class_weights="balanced")
    expected = compute_class_weight("balanced", classes=np.array(["a", "b", "c"]), y=np.array(label))
    assert task.class_weights == pytest.approx(dict(zip("abc", expected, strict=True)))
    several = bound([["x"], ["x", "y"], [], []], class_weights="balanced")
    assert several.class_weights == {"x": 1.0, "y": 3.0}


# ---- problems ----------------------------------------------------------------------------------


def test_one_label_is_nothing_to_learn() -> None:
    columns = {"text": ["t", "t"], "label": ["a", "a"]}
    problems = Classification().bind(columns).check("train", columns)
    assert [problem.severity for problem in problems] == ["error"]
    assert "nothing to learn" in problems[0].message
    assert Classification().bind(columns).check("test", columns) == []


def test_unknown_labels_are_grouped_and_bounded() -> None:
    task = bound(["good", "bad"])
    problems = task.check("test", {"label": ["good", "bda", "ba", "bda"]})
    assert [(problem.count, problem.rows) for problem in problems] == [(2, ("test:1", "test:3")), (1, ("test:2",))]
    assert "Did you mean 'bad'?" in problems[0].fix
    many = task.check("validation", {"label": [f"text number {i} " * 20 for i in range(100)]})
    assert len(many) == 11
    assert "90 more" in many[-1].message
    assert all(len(problem.message) < 200 for problem in many)


def test_missing_and_several_labels_are_reported_together() -> None:
    task = bound(["a", "b"])
    problems = task.check("test", {"label": ["a", None, ["a", "b"], "zzz", " "]})
    assert [problem.count for problem in problems] == [2, 1, 1]
    with pytest.raises(InputError) as caught:
        task.targets({"label": ["a", None, ["a", "b"], "zzz"]})
    assert len(caught.value.problems) == 3


def test_free_text_as_labels_is_reported() -> None:
    label = [f"an opinion on {i}" for i in range(30)]
    problems = bound(label).check("train", {"label": label})
    assert "free text" in problems[0].message


def test_labels_on_no_row_or_every_row() -> None:
    task = bound(["a", "b"], labels=["a", "b", "c"])
    assert [(p.severity, "'c'" in p.message) for p in task.check("train", {"label": ["a", "b"]})] == [("warning", True)]
    task = bound([["a"], ["a", "b"]])
    assert "Every training row has the label 'a'" in task.check("train", {"label": [["a"], ["a", "b"]]})[0].message


# ---- losses ------------------------------------------------------------------------------------

finite = st.floats(-30, 30)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    smoothing=st.sampled_from([0.0, 0.1, 0.5]),
    weighted=st.booleans(),
)
def test_cross_entropy_equals_torch(seed: int, smoothing: float, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(7, 4, generator=generator, dtype=torch.float64) * 3
    label = torch.randint(0, 4, (7,), generator=generator)
    weight = torch.rand(4, generator=generator, dtype=torch.float64) + 0.1 if weighted else None
    task = Classification(
        labels=tuple("abcd"),
        multi_label=False,
        label_smoothing=smoothing,
        class_weights=None if weight is None else dict(zip("abcd", weight.tolist(), strict=True)),
    )
    expected = functional.cross_entropy(scores, label, weight=weight, label_smoothing=smoothing)
    targets = {"label": label}
    found = task.loss_sum(scores, targets, Units.single(len(scores))) / task.count_units(
        targets, Units.single(len(next(iter(targets.values()))))
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), weighted=st.booleans())
def test_binary_cross_entropy_equals_torch(seed: int, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(7, 4, generator=generator, dtype=torch.float64) * 3
    label = torch.randint(0, 2, (7, 4), generator=generator).float()
    weight = torch.rand(4, generator=generator, dtype=torch.float64) + 0.1 if weighted else None
    task = Classification(
        labels=tuple("abcd"),
        multi_label=True,
        class_weights=None if weight is None else dict(zip("abcd", weight.tolist(), strict=True)),
    )
    expected = functional.binary_cross_entropy_with_logits(scores, label.double(), pos_weight=weight)
    targets = {"label": label}
    found = task.loss_sum(scores, targets, Units.single(len(scores))) / task.count_units(
        targets, Units.single(len(next(iter(targets.values()))))
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_focal_loss_is_equation_five() -> None:
    """FL(p_t) = -alpha_t (1 - p_t)^gamma log(p_t)."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    label = torch.tensor([0, 1, 2, 2, 1, 0])
    alpha = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    task = Classification(labels=tuple("abc"), multi_label=False, class_weights=(0.2, 0.3, 0.5), focal_gamma=2.0)
    task = task.bind({"label": ["a"]})
    p = scores.softmax(-1)[torch.arange(6), label]
    torch.testing.assert_close(
        task.loss_sum(scores, {"label": label}, Units.single(len(scores))),
        (-alpha[label] * (1 - p) ** 2 * p.log()).sum(),
    )

    several = Classification(labels=tuple("abc"), multi_label=True, focal_gamma=2.0)
    target = torch.tensor([[1.0, 0, 0], [0, 1, 1], [1, 1, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    p = scores.sigmoid()
    p = torch.where(target > 0, p, 1 - p)
    torch.testing.assert_close(
        several.loss_sum(scores, {"label": target}, Units.single(len(scores))), (-((1 - p) ** 2) * p.log()).sum()
    )


def test_focal_loss_with_a_small_gamma_has_a_finite_gradient() -> None:
    for multi_label, label in ((False, torch.tensor([0])), (True, torch.tensor([[1.0, 0.0]]))):
        task = Classification(labels=("a", "b"), multi_label=multi_label, focal_gamma=0.5)
        scores = torch.tensor([[100.0, -100.0]], requires_grad=True)
        task.loss_sum(scores, {"label": label}, Units.single(len(scores))).backward()
        assert scores.grad is not None
        assert torch.isfinite(scores.grad).all()


# ---- answers -----------------------------------------------------------------------------------


def test_decode_and_measure_a_single_label() -> None:
    task = bound(["x", "y", "z"])
    outputs = {"scores": np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], dtype=np.float32))}
    first, second = task.decode(outputs)
    assert first["label"] == "x"
    assert first["score"] == pytest.approx(0.7, abs=1e-6)
    assert second["probabilities"] == pytest.approx({"x": 0.1, "y": 0.3, "z": 0.6}, abs=1e-6)
    targets = {"label": np.array([0, 1])}
    measured = task.measure(outputs, targets, np.ones((1, 2)))
    assert measured["accuracy"][0] == 0.5
    assert measured["log_loss"][0] == pytest.approx(-(np.log(0.7) + np.log(0.3)) / 2, abs=1e-6)
    np.testing.assert_allclose(task.errors(outputs, targets), [0.0, 0.6], atol=1e-6)


def test_decode_several_labels() -> None:
    task = bound([["x"], ["y"]], threshold=0.4)
    probabilities = np.array([[0.45, 0.9], [0.1, 0.2]])
    outputs = {"scores": np.log(probabilities / (1 - probabilities)).astype(np.float32)}
    first, second = task.decode(outputs)
    assert first["label"] == ["x", "y"]
    assert first["score"] == pytest.approx(0.45, abs=1e-6)
    assert second["label"] == []
    assert second["score"] == pytest.approx(0.8, abs=1e-6)
    errors = task.errors(outputs, {"label": np.array([[0, 0], [0, 0]], dtype=np.float32)})
    np.testing.assert_allclose(errors, [0.9, 0.0], atol=1e-6)


def test_measure_with_ones_equals_sklearn() -> None:
    random = np.random.default_rng(0)
    label = random.integers(0, 3, 200)
    task = Classification(labels=("a", "b", "c"), multi_label=False)
    outputs = {"scores": random.normal(size=(200, 3)).astype(np.float32) + 2 * np.eye(3, dtype=np.float32)[label]}
    measured = task.measure(outputs, {"label": label}, np.ones((1, 200)))
    predicted, p = outputs["scores"].argmax(axis=1), task.probabilities(outputs)
    assert measured["accuracy"][0] == pytest.approx(sk.accuracy_score(label, predicted))
    assert measured["macro_f1"][0] == pytest.approx(sk.f1_score(label, predicted, average="macro"))
    assert measured["mcc"][0] == pytest.approx(sk.matthews_corrcoef(label, predicted))
    assert measured["roc_auc"][0] == pytest.approx(sk.roc_auc_score(label, p, multi_class="ovr"))
    assert measured["log_loss"][0] == pytest.approx(sk.log_loss(label, p))


@pytest.mark.parametrize(("num_labels", "curves"), [(2, 1), (3, 4), (12, 13), (13, 1)])
def test_number_of_curves(num_labels: int, curves: int) -> None:
    random = np.random.default_rng(1)
    label = np.arange(400) % num_labels
    task = Classification(labels=tuple(f"c{k:02}" for k in range(num_labels)), multi_label=False)
    details = task.details({"scores": random.normal(size=(400, num_labels)).astype(np.float32)}, {"label": label})
    for kind in ("roc", "precision_recall"):
        assert len(details["curves"][kind]) == curves
        assert all(len(curve["points"]) <= 200 for curve in details["curves"][kind])
    assert np.sum(details["confusion_matrix"]) == 400
    assert [row["support"] for row in details["per_label"]] == np.bincount(label).tolist()


def test_details_when_a_label_is_absent() -> None:
    task = Classification(labels=("a", "b", "c"), multi_label=False)
    details = task.details({"scores": np.eye(3, dtype=np.float32)}, {"label": np.array([0, 0, 1])})
    assert [curve["label"] for curve in details["curves"]["roc"]] == ["a", "b", "micro-average"]
    assert details["confusion_matrix"] == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    ("known", "cells", "wanted"),
    [
        (("false", "true"), ["True", "FALSE", True, 1, "0", 0.0], [1, 0, 1, 1, 0, 0]),
        (("False", "True"), ["true", False, "1"], [1, 0, 1]),
        (("0", "1"), ["True", False, "1.0"], [1, 0, 1]),
        (("1", "2"), ["1.0", 2.0, "2"], [0, 1, 1]),
        (("4.0", "4.1"), ["4", "4.1"], [0, 1]),
    ],
)
def test_labels_of_other_files_are_those_of_the_training(known: Any, cells: list[Any], wanted: list[int]) -> None:
    task = Classification(labels=known, multi_label=False)
    columns = {"text": ["x"] * len(cells), "label": cells}
    assert not [problem for problem in task.check("test", columns) if problem.severity == "error"]
    assert task.targets(columns)["label"].tolist() == wanted  # type: ignore[union-attr]


@pytest.mark.parametrize("cell", ["4.10", "04.1", "1E2", "yes", "True", "+4.1"])
def test_other_names_are_other_labels(cell: str) -> None:
    task = Classification(labels=("4.1", "100"), multi_label=False)
    (problem,) = task.check("test", {"text": ["x"], "label": [cell]})
    assert "was not seen in training" in problem.message


def test_decimal_commas_are_never_several_labels() -> None:
    columns = {"text": ["x"] * 6, "label": ["2,5", "3", "5", "2,5", "3,5", "2"]}
    bound = Classification().bind(columns)
    assert not bound.multi_label
    assert bound.labels == ("2", "2,5", "3", "3,5", "5")


def test_every_label_may_have_its_own_threshold_and_may_find_it() -> None:
    columns = {"label": [["a"], ["a", "b"], ["b"], [], ["a"], []]}
    task = Classification(multi_label=True, tune_thresholds=True).bind(columns)
    targets = task.targets(columns)
    odds = np.array([[2.0, -3.0], [1.0, -1.0], [-2.0, -2.0], [0.5, -4.0], [3.0, -5.0], [-1.0, -6.0]], np.float32)
    outputs = {"scores": odds}
    tuned = task.tune(outputs, targets)
    assert tuned.thresholds is not None
    probabilities = 1 / (1 + np.exp(-odds.astype(np.float64)))
    assert probabilities[3, 0] < tuned.thresholds["a"] < probabilities[1, 0]
    assert probabilities[0, 1] < tuned.thresholds["b"] < probabilities[2, 1]
    assert [one["label"] for one in tuned.decode(outputs)] == [["a"], ["a", "b"], ["b"], [], ["a"], []]
    ones = np.ones((1, 6))
    assert tuned.measure(outputs, targets, ones)["macro_f1"] == 1.0
    assert task.measure(outputs, targets, ones)["macro_f1"] < 1.0
    assert tuned.tune(outputs, targets) == tuned
    with pytest.raises(InputError, match="thresholds names labels"):
        Classification(multi_label=True, thresholds={"c": 0.3}).bind(columns)
