"""What annotation tools and services write beside a text, as columns: one for each question that was answered.

Label Studio (``annotations`` beside ``data``), Argilla (``responses`` beside ``fields``), Labelbox (``projects`` beside
a ``data_row``), SageMaker Ground Truth (a ``-metadata`` object beside every label), Vertex AI (``textContent`` with
``...Annotations``), and what document databases write around a number or a time (``{"$oid": ...}``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

_SPANS = frozenset({"labels", "hypertextlabels", "paragraphlabels"})
_METADATA = "-metadata"
_EXTENDED: dict[str, Callable[[Any], Any]] = {
    "$oid": str,
    "$date": lambda value: value,
    "$numberInt": int,
    "$numberLong": int,
    "$numberDouble": float,
    "$numberDecimal": str,
}
"""What MongoDB writes instead of a value that JSON has no type for."""


def exported_row(value: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of a row as a tool has exported it; a row of any other origin as it is."""
    row = {name: _extended(one) for name, one in value.items()}
    annotated = _of_label_studio(row) or _of_argilla(row) or _of_labelbox(row) or _of_vertex(row)
    return annotated or _of_ground_truth(row)


def _extended(value: Any) -> Any:
    if isinstance(value, dict) and len(value) == 1:
        ((key, inner),) = value.items()
        if key in _EXTENDED:
            try:
                return _EXTENDED[key](inner)
            except (TypeError, ValueError):
                return value
    return value


# ---- Label Studio --------------------------------------------------------------------------------


def _of_label_studio(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the data of a task with what was answered, a column for each control; None for anything else.

    Of several annotations that count the first is taken, before others one that is marked as the truth. Tasks in
    which nothing but spans are marked keep them: these are read where they stand.
    """
    data, marked = row.get("data"), row.get("annotations", row.get("completions"))
    if not isinstance(data, dict) or not isinstance(marked, list) or not all(isinstance(one, dict) for one in marked):
        return None
    valid = [one for one in marked if isinstance(one.get("result"), list) and one.get("was_cancelled") is not True]
    first = next((one for one in valid if one.get("ground_truth") is True), valid[0] if valid else None)
    results = [one for one in first["result"] if isinstance(one, dict)] if first is not None else []
    if results and all(one.get("type") in _SPANS | {"relation"} for one in results):
        return None
    answered: dict[str, Any] = {}
    for one in results:
        name = one.get("from_name")
        if not isinstance(name, str) or not isinstance(one.get("value"), dict):
            continue
        if one.get("type") in _SPANS:
            answered.setdefault(name, []).append(one)
        else:
            answered[name] = _answer(one)
    if first is not None and not results:
        return None
    rest = {"id": row["id"]} if "id" in row and "id" not in data else {}
    return {**rest, **data, **{f"{name}_answer" if name in data else name: one for name, one in answered.items()}}


def _answer(result: Mapping[str, Any]) -> Any:
    """Return what was answered with one control: a label or several, a text, a number."""
    value = result["value"]
    kind = result.get("type")
    held = value.get(kind) if kind in value else value.get("text")
    if kind == "taxonomy" and isinstance(held, list):
        held = ["/".join(map(str, path)) if isinstance(path, list) else path for path in held]
    return held[0] if isinstance(held, list) and len(held) == 1 else held


# ---- Argilla -------------------------------------------------------------------------------------


def _of_argilla(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a record's fields with the first response that was submitted to each question."""
    fields, responses = row.get("fields"), row.get("responses")
    if not isinstance(fields, dict) or not isinstance(responses, dict):
        return None
    answered = {}
    for question, given in responses.items():
        if not isinstance(given, list) or not all(isinstance(one, dict) and "value" in one for one in given):
            return None
        submitted = [one for one in given if one.get("status", "submitted") == "submitted"]
        answered[question] = submitted[0]["value"] if submitted else None
    rest = {name: one for name, one in row.items() if name in ("id", "status") and name not in fields}
    return {**fields, **{f"{name}_answer" if name in fields else name: one for name, one in answered.items()}, **rest}


# ---- Labelbox ------------------------------------------------------------------------------------


def _of_labelbox(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a text with the answers of its first label, a column for each question, and its spans."""
    text, label = row.get("Labeled Data"), row.get("Label")
    if not (isinstance(text, str) and isinstance(label, dict)):
        given, projects = row.get("data_row"), row.get("projects")
        if not isinstance(given, dict) or not isinstance(projects, dict) or not isinstance(given.get("row_data"), str):
            return None
        text = given["row_data"]
        labels = [
            one for project in projects.values() if isinstance(project, dict) for one in project.get("labels") or ()
        ]
        label = labels[0].get("annotations") if labels and isinstance(labels[0], dict) else {}
    if not isinstance(label, dict):
        return None
    found: dict[str, Any] = {"text": text}
    for one in label.get("classifications") or ():
        if isinstance(one, dict):
            found[_called(one)] = _chosen(one)
    spans = [
        {"label": _called(one), **place}
        for one in label.get("objects") or ()
        if isinstance(one, dict) and isinstance(place := one.get("location", one.get("data", {}).get("location")), dict)
    ]
    return found | ({"entities": spans} if spans else {})


def _called(one: Mapping[str, Any]) -> str:
    return str(next((one[key] for key in ("name", "title", "value") if one.get(key)), "label"))


def _chosen(one: Mapping[str, Any]) -> Any:
    """Return what was answered: a name, names, or a text."""
    answer = next(
        (one[key] for key in ("answer", "radio_answer", "checklist_answers", "text_answer") if key in one), None
    )
    if isinstance(answer, list):
        return [_called(each) for each in answer if isinstance(each, dict)]
    return answer.get("content", _called(answer)) if isinstance(answer, dict) else answer


# ---- services ------------------------------------------------------------------------------------


def _of_vertex(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return text and label, labels or spans of a row of Vertex AI (AutoML)."""
    text = row.get("textContent")
    if not isinstance(text, str):
        return None
    one, several = row.get("classificationAnnotation"), row.get("classificationAnnotations")
    spans, sentiment = row.get("textSegmentAnnotations"), row.get("sentimentAnnotation")
    if isinstance(one, dict) and "displayName" in one:
        return {"text": text, "label": one["displayName"]}
    if isinstance(several, list) and all(isinstance(each, dict) for each in several):
        return {"text": text, "label": [each.get("displayName") for each in several]}
    if isinstance(spans, list):
        return {"text": text, "entities": spans}
    if isinstance(sentiment, dict) and "sentiment" in sentiment:
        return {"text": text, "label": sentiment["sentiment"]}
    return None


def _of_ground_truth(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of an augmented manifest with its labels by name, or its spans, and without what is said of them."""
    found = {}
    for name, value in row.items():
        said = row.get(f"{name}{_METADATA}")
        if not isinstance(said, dict):
            continue
        marked = value.get("annotations") if isinstance(value, dict) else None
        if isinstance(marked, dict) and isinstance(marked.get("entities"), list):
            found[name] = marked["entities"]
        elif "class-name" in said:
            found[name] = said["class-name"]
        elif isinstance(said.get("class-map"), dict) and isinstance(value, list):
            found[name] = _names(said["class-map"], value)
    if not found:
        return row
    rest = {name: one for name, one in row.items() if not name.endswith(_METADATA)}
    return {**rest, **found}


def _names(names: Mapping[str, Any], numbers: Sequence[Any]) -> list[Any]:
    return [names.get(str(number), number) for number in numbers]
