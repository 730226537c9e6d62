from __future__ import annotations

import base64
import hashlib
import json
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from page_checks import check, open_in_chromium, visible
from tunesmith.report import write_report
from tunesmith.report.answers import segments_of
from tunesmith.types import InputError

runs = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("runs.py"))))
SECTIONS = ("Results", "Training", "Errors", "Cost", "Data", "Configuration", "Environment")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("report")
    return {kind: write_report([runs.write_kind(kind, folder / kind)], folder / f"{kind}.html") for kind in runs.KINDS}


@pytest.mark.parametrize("kind", runs.KINDS)
def test_page_is_whole_and_has_every_section(pages: dict[str, Path], kind: str) -> None:
    page, checker = check(pages[kind])
    assert [name for name in checker.headings if name in SECTIONS] == list(SECTIONS)
    assert ("Answers" in checker.headings) == (kind == "chat")
    assert not re.search(r"\bnan\b(?! ?\.)|\binf\b|None|undefined", visible(page).replace("loss is nan", ""))


def test_headline_and_numbers(pages: dict[str, Path]) -> None:
    text = visible(pages["two"].read_text(encoding="utf-8"))
    for golden in (
        "0.853",
        "Better than the baseline by 8.1 points [6.2, 9.9].",
        "1 min 32 s",
        "predicted: 1 min 28 s",
        "after step 9",
        "predicted: 1.3 GB",
        "1.2 GB",
        "738k",
        "3.1% of 23.5M",
        "3.0 MB",
        "13,034",
        "TF-IDF + logistic regression",
        "LoRA (rank 16)",
        "sample:minilm on reviews.csv",
        "95% intervals in brackets from 1,000 bootstrap resamples of 1,280 test rows",
        "1 of 360 steps were skipped: loss is nan",
        "12 rows occur in both train and test.",
        "reviews.csv:4",
        "the only column of free text",
        "rank: 16",
        "AMD EPYC",
        "17 GB",
        "Confusion matrix",
        "ROC curve",
        "Calibration",
        "Scores by label",
        "Most confident mistakes",
        "99.1% sure",
        "这部电影的节奏太慢了",
    ):
        assert golden in text, golden


def test_no_win_is_claimed_without_evidence(pages: dict[str, Path]) -> None:
    unclear = visible(pages["six"].read_text(encoding="utf-8"))
    assert "No clear difference from the baseline: +0.6 points [−0.8, 1.9]; the 95% interval includes 0." in unclear
    assert "Better than" not in unclear
    assert "Worse than the baseline by 3.4 points" in visible(pages["many"].read_text(encoding="utf-8"))


def test_many_labels_get_a_map_and_the_worst_pairs(pages: dict[str, Path]) -> None:
    page = pages["many"].read_text(encoding="utf-8")
    assert 'class="heat-map"' in page
    assert 'class="confusion' not in page
    pairs = page.partition("Most confused pairs")[2].partition("</table>")[0]
    assert pairs.count("<tr>") == 21


def test_multi_label_and_regression(pages: dict[str, Path]) -> None:
    multi = visible(pages["multi"].read_text(encoding="utf-8"))
    assert "With several labels a row there is no confusion matrix" in multi
    assert "anger, surprise" in multi
    assert "(none)" in multi
    regression = visible(pages["regression"].read_text(encoding="utf-8"))
    assert "Better than the baseline by 0.610 in root mean squared error" in regression
    for section in ("Predicted and true", "Residuals", "Largest errors"):
        assert section in regression
    assert "Confusion" not in regression


def test_entities_and_words(pages: dict[str, Path]) -> None:
    page = pages["entities"].read_text(encoding="utf-8")
    text = visible(page)
    assert "entities that were missed" in text
    assert "The evaluation holds no curves" not in text
    matrix = page.partition('class="confusion')[2].partition("</table>")[0]
    assert matrix.count('class="unmatched"') == 2
    assert matrix.count('class="nothing"') == 1
    assert re.search(r'class="total">entities<', matrix)
    mistakes = page.partition('<ol class="mistakes">')[2].partition("</ol>")[0]
    assert "missed: Empire State Building location found: Beyoncé person" in visible(mistakes)
    assert "predicted wrong: Empire State location right: Beyoncé person 98% sure" in visible(mistakes)
    assert "true missed: Heidi person and 8 on both sides predicted 8 on both sides" in visible(mistakes)
    assert "true (none) predicted wrong: so group" in visible(mistakes)
    words = pages["words"].read_text(encoding="utf-8")
    assert "unmatched" not in words.partition("</style>")[2]
    assert "percent of the true label’s tokens" in words
    assert "true missed: fox NOUN and 6 on both sides" not in visible(words)
    assert "missed: fox NOUN found: jumps VERB" in visible(words)


def test_many_types_of_entities_get_a_map(tmp_path: Path) -> None:
    folder = runs.write_run(tmp_path / "run", evaluation=runs.entity_evaluation(25))
    page, _ = check(write_report([folder], tmp_path / "report.html"))
    assert "stands for entities that only one side has" in page
    assert '<th class="number">Entities</th>' in page


def test_language_models_are_judged_against_themselves(pages: dict[str, Path]) -> None:
    chat = visible(pages["chat"].read_text(encoding="utf-8"))
    for golden in (
        "Language modelling · LoRA",
        "Better than before fine-tuning by 7.460 in perplexity [7.3",
        "Perplexity lower is better",
        "Bits per byte lower is better",
        "ROUGE-L",
        "+13.1 points",
        "chrF",
        "+12.9 points",
        "BLEU",
        "Least expected rows",
        "perplexity 164.0",
        "reference A reference. answer An answer. perplexity 82.00",
    ):
        assert golden in chat, golden
    for word in ("baseline", "Baseline", "(none)", "Confusion", "curves"):
        assert word not in chat, word
    passages = visible(pages["passages"].read_text(encoding="utf-8"))
    assert "Pseudo-perplexity" in passages
    assert "No clear difference from before fine-tuning: +0.100 in pseudo-perplexity" in passages


def test_answers_stand_side_by_side(pages: dict[str, Path]) -> None:
    page = pages["chat"].read_text(encoding="utf-8")
    answers = page.partition('<ol class="answers">')[2].partition("</ol>")[0]
    assert answers.count('class="reply') == 8
    assert answers.count("same as the reference") == 1
    code = '<pre tabindex="0"><code>def unique(items):\n    return list(dict.fromkeys(items))'
    assert answers.count(code) == 2
    assert "```python" not in answers
    assert answers.count('<details class="long">') == 1
    assert "show all 2,164 characters" in answers
    assert "59. 第59步" in answers
    assert "(not asked for)" in answers
    assert "(empty)" in answers
    assert "&lt;script&gt;alert(&#34;x&#34;)" in answers


def test_answers_of_the_model_alone_and_long_ones(tmp_path: Path) -> None:
    given = [{"row": i, "prompt": "x" * 30_000, "before": None, "after": "y"} for i in range(50)]
    folder = runs.write_run(tmp_path / "run", evaluation=runs.chat_evaluation() | {"answers": given})
    page, _ = check(write_report([folder], tmp_path / "report.html"))
    answers = page.partition('<ol class="answers">')[2].partition("</ol>")[0]
    assert "Before fine-tuning" not in answers
    assert "Reference" not in answers
    assert answers.count("show all 30,000 characters") == 20


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("", []),
        ("a\n\nb", [("prose", "a\n\nb")]),
        ("```\n  x\n```", [("code", "  x")]),
        ("say:\n~~~c++\nint x;\n```\n~~~\nend", [("prose", "say:"), ("code", "int x;\n```"), ("prose", "end")]),
        ("````\n```\n````\n", [("code", "```")]),
        ("```js\nopen", [("code", "open")]),
        ("use ``` here", [("prose", "use ``` here")]),
    ],
)
def test_code_is_found_in_answers(text: str, segments: list[tuple[str, str]]) -> None:
    assert [(segment.kind, segment.text) for segment in segments_of(text)] == segments


def test_runs_against_their_own_models_are_compared(tmp_path: Path) -> None:
    folders = []
    for name, perplexity in (("one", 11.83), ("two", 25.5)):
        evaluation = runs.chat_evaluation()
        evaluation["baseline"]["metrics"]["perplexity"]["value"] = perplexity
        config = runs.config_of(task="causal_lm") | {"model": {"name": f"org/{name}"}}
        folders.append(
            runs.write_run(tmp_path / name, config=config, training=runs.training_of(), evaluation=evaluation)
        )
    folders.append(runs.write_run(tmp_path / "three", config=runs.config_of(task="causal_lm"), lines=[]))
    page, _ = check(write_report(folders, tmp_path / "report.html"))
    table = page.partition("<tbody>")[2].partition("</tbody>")[0]
    assert table.count("<tr") == 5
    assert table.count('<tr class="baseline">') == 2
    assert "before fine-tuning org/two none" in visible(table)
    assert "Language modelling: Perplexity (lower is better)" in visible(page)
    assert "paired differences from the model before fine-tuning" in page
    assert "baseline" not in visible(page.partition("<details")[0])


def test_missing_parts_are_stated(pages: dict[str, Path]) -> None:
    partial = visible(pages["partial"].read_text(encoding="utf-8"))
    for sentence in (
        "there is no training.json yet",
        "57 steps are recorded",
        "has not been evaluated yet",
        "No validation is recorded",
        "There is no environment.json",
    ):
        assert sentence in partial
    failed = visible(pages["failed"].read_text(encoding="utf-8"))
    assert "Training did not finish: its status is “failed” after 360 steps." in failed
    assert "No training steps are recorded" in failed


@pytest.mark.parametrize(
    "kept", ["config.yaml", "training.json", "environment.json", "evaluation.json", "metrics.jsonl"]
)
def test_a_single_file_is_enough(tmp_path: Path, kept: str) -> None:
    folder = runs.write_kind("two", tmp_path / "run")
    for file in folder.iterdir():
        if file.name != kept:
            file.unlink()
    check(write_report([folder], tmp_path / "report.html"))


def test_empty_evaluation(tmp_path: Path) -> None:
    folder = runs.write_run(tmp_path / "run", evaluation={}, training={}, environment={}, config={})
    page, _ = check(write_report([folder], tmp_path / "report.html"))
    assert "The evaluation holds no metrics." in page


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    hostile = runs.HOSTILE + "\x00\x1b\ud800\u202e" + "x" * 5000
    evaluation = runs.evaluation_of([runs.HOSTILE, '"onmouseover="alert(1)'])
    evaluation["mistakes"][0] |= {"text": hostile, "text_pair": hostile, "row": hostile}
    evaluation["baseline"]["name"] = runs.HOSTILE
    evaluation["metrics"] = {f"<b>{name}": value for name, value in evaluation["metrics"].items()}
    training = runs.training_of(status=runs.HOSTILE)
    found = {"severity": runs.HOSTILE, "message": hostile, "fix": hostile, "count": 2, "rows": [hostile]}
    training["problems"] = [found]
    config = runs.config_of(note=runs.HOSTILE)
    config["model"] = config["data"]["path"] = runs.HOSTILE
    environment = {"versions": {runs.HOSTILE: runs.HOSTILE}, "machine": {runs.HOSTILE: [runs.HOSTILE]}}
    folder = tmp_path / "run"
    runs.write_run(folder, config=config, environment=environment, lines=runs.metrics_lines(20))
    (folder / "training.json").write_text(json.dumps(training))
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    page, checker = check(write_report([folder], tmp_path / "report.html"))
    assert page.count("<script") == 1
    assert "<b>" not in page
    assert not re.search("[\x00\x1b\ud800]", page)
    assert "img" not in checker.tags
    assert "textarea" not in checker.tags
    assert "alert(&#34;x&#34;)" in page


def test_the_script_is_the_only_one_allowed(pages: dict[str, Path]) -> None:
    page = pages["two"].read_text(encoding="utf-8")
    script = page.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page


def test_several_runs(tmp_path: Path) -> None:
    folders = [
        runs.write_run(
            tmp_path / name,
            config=runs.config_of(name),
            training=runs.training_of(name),
            environment=runs.environment_of(),
            evaluation=runs.evaluation_of(["a", "b"], accuracy=accuracy, gain=accuracy - 0.772),
            lines=runs.metrics_lines(40),
        )
        for name, accuracy in (("lora", 0.853), ("full", 0.861), ("freeze", 0.81))
    ]
    folders.append(runs.write_kind("partial", tmp_path / "partial"))
    page, checker = check(write_report(folders, tmp_path / "report.html"))
    table = page.partition("<tbody>")[2].partition("</tbody>")[0]
    assert table.count("<tr") == 5
    assert table.count('<tr class="baseline">') == 1
    assert "not evaluated" in table
    assert "cannot be compared" not in page
    assert page.count('<details class="run"') == 4
    assert {f"run-{i}" for i in range(1, 5)} <= checker.ids
    assert page.index("<tbody>") < page.index("<details")


def test_runs_on_other_test_rows_are_not_compared_silently(tmp_path: Path) -> None:
    folders = [
        runs.write_run(
            tmp_path / name,
            config=runs.config_of(),
            training=runs.training_of(),
            environment=runs.environment_of(test_hash=name),
            evaluation=runs.evaluation_of(["a", "b"]),
        )
        for name in ("one", "two")
    ]
    assert "cannot be compared" in write_report(folders, tmp_path / "report.html").read_text(encoding="utf-8")


def test_names_tell_runs_apart_and_output_may_be_a_folder(tmp_path: Path) -> None:
    folders = [runs.write_kind("partial", tmp_path / parent / "run") for parent in ("a", "b")]
    output = write_report(folders, tmp_path)
    assert output == tmp_path / "report.html"
    assert "a/run" in output.read_text(encoding="utf-8")


def test_no_folder_and_wrong_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        write_report([], tmp_path / "report.html")
    with pytest.raises(InputError, match="nowhere"):
        write_report([tmp_path / "nowhere"], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.slow
def test_chromium_runs_the_page_without_errors(pages: dict[str, Path], tmp_path: Path) -> None:
    result = open_in_chromium(pages["two"], tmp_path)
    assert 'class="tip"' in result.stdout, "the script did not run to its end"
    assert 'class="sort"' in result.stdout
    assert "CONSOLE" not in result.stderr
