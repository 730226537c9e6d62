from __future__ import annotations

import base64
import hashlib
import json
import math
import random
import re
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from page_checks import check, open_in_chromium, visible
from tunesmith.cli.application import tunesmith
from tunesmith.report import write_report, write_study_report
from tunesmith.types import InputError

studies = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("studies.py"))))
FIRST_RUN = {
    "folds": "runs/repeat-0/fold-0/report.html",
    "search": "runs/trial-0/report.html",
}
Study = dict[str, Any]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("studies")
    return {
        kind: write_study_report(studies.write_study(folder / kind, make())) for kind, make in studies.KINDS.items()
    }


def study_of(page: Path) -> Study:
    return json.loads((page.parent / "study.json").read_text())  # type: ignore[no-any-return]


def rows_of(page: str, kind: str) -> list[str]:
    """Return the rows of the first table of a class, as they are read."""
    table = re.search(rf'<table class="[^"]*\b{kind}\b.*?</table>', page, re.DOTALL)
    assert table, kind
    return [visible(row) for row in re.findall(r"<tr.*?</tr>", table[0].partition("</thead>")[2], re.DOTALL)]


def section(page: str, anchor: str) -> str:
    return page.partition(f'<section id="{anchor}">')[2].partition("</section>")[0]


@pytest.mark.parametrize("kind", studies.KINDS)
def test_page_is_whole_and_says_the_verdict(pages: dict[str, Path], kind: str) -> None:
    page, checker = check(pages[kind], frozenset({FIRST_RUN.get(kind, "runs/full/seed-0/report.html")}))
    text = visible(page)
    verdict = study_of(pages[kind])["verdict"] or "There is no verdict yet."
    assert verdict in text
    assert ("Take lora: as good as full." in text) == ("recommended" in study_of(pages[kind]))
    assert "The study" in checker.headings
    assert not re.search(r"\bnan\b(?! at)|\binf\b|\bNone\b|undefined", text.replace("loss was nan", ""))
    for link in re.findall(r'<a href="(runs[^"]*)"', page):
        assert (pages[kind].parent / link).is_file()
    script = page.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page


def points(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{100 * value:.1f}".replace("-0.0", "0.0").replace("-", "−")


def signed(value: float) -> str:
    text = points(value)
    return text if value < 0 or text == "0.0" else f"+{text}"


@pytest.mark.parametrize("kind", ["three", "crowded", "failed", "running", "one_seed", "single"])
def test_every_number_of_a_method_stands_in_its_row(pages: dict[str, Path], kind: str) -> None:
    from tunesmith import readable
    from tunesmith.readable import latency
    from tunesmith.report.studies.words import rate

    study, page = study_of(pages[kind]), pages[kind].read_text(encoding="utf-8")
    rows = rows_of(page, "contest-table")
    assert len(rows) == len(study["methods"])
    for method in study["methods"]:
        row = next(row for row in rows if row.startswith(method["title"] + " "))
        expected = [points(method["mean"])]
        if method["mean"] is not None:
            expected.append(f"[{points(method['low'])}, {points(method['high'])}]")
            expected.append(str(method["seeds"]))
        expected += [rate(method["learning_rate"])] if method["learning_rate"] else []
        times = (("seconds", readable.duration), ("latency", latency))
        expected += [show(method[key]) for key, show in times if method[key] is not None]
        expected += [readable.size(method[key]) for key in ("peak_memory", "size")]
        expected += [readable.compact(method["trained_parameters"]), method["reason"]]
        for text in expected:
            assert text in row, (text, row)
    ranks = [float(row.partition("[")[0].split()[-1]) for row in rows if "[" in row]
    assert ranks == sorted(ranks, reverse=True)


@pytest.mark.parametrize("kind", ["three", "crowded", "failed", "one_seed"])
def test_every_comparison_is_shown_with_its_verdict(pages: dict[str, Path], kind: str) -> None:
    study, page = study_of(pages[kind]), pages[kind].read_text(encoding="utf-8")
    titles = {method["name"]: method["title"] for method in study["methods"]}
    forest, uncertain = rows_of(page, "forest"), rows_of(page, "uncertainty")
    assert len(forest) == len(uncertain) == len(study["comparisons"])
    for one in study["comparisons"]:
        row = next(row for row in forest if row.startswith(titles[one["method"]] + " "))
        interval = f"[{signed(one['low'])}, {signed(one['high'])}]"
        p = "<0.001" if one["p"] < 0.001 else f"{one['p']:.3f}"
        for text in (signed(one["difference"]), interval, one["verdict"], p):
            assert text in row, (text, row)
        row = next(row for row in uncertain if row.startswith(titles[one["method"]] + " "))
        parts = [one["variance_rows"], one["variance_seeds"]]
        for part in parts:
            error = "not measured" if part is None else f"{100 * part**0.5:.2f}"
            assert error in row, (error, row)
        assert f"{100 * sum(part or 0 for part in parts) ** 0.5:.2f}" in row
        assert one["advice"] in row
        assert ("about 16,000 test rows would tell" in row) == (one["verdict"] == "undecided")


def test_every_run_trial_and_opening_is_listed(pages: dict[str, Path]) -> None:
    study, page = study_of(pages["three"]), pages["three"].read_text(encoding="utf-8")
    runs = rows_of(page, "runs")
    assert len(runs) == 12
    for method in study["methods"]:
        for run in method["runs"]:
            row = next(row for row in runs if row.endswith(run["folder"]))
            steps = f"{run['steps']}, best {run['best_step']}" if run["steps"] else "–"
            for text in (method["title"], points(run["value"]), f"{run['metrics']['log_loss']:.3f}", steps, "done"):
                assert text in row, (text, row)
    tuning = visible(section(page, "tuning"))
    for trial in study["tuning"]:
        assert f"{points(trial['value'])} done" in tuning
        assert trial["folder"] in tuning
    for values in study["expected_maximum"].values():
        assert " ".join(map(points, values)) in tuning
    last = visible(section(page, "study"))
    for text in (
        "What sharing saved: 6 min 53 s",
        "states of frozen layers 1 5 5 min 36 s",
        "24 min 13 s of 30 min 0 s spent (81%)",
        "2 of 5 rates were left out",
        "Openings of the test rows: 9",
        "runs/ia3/seed-2",
        "12 rows occur in both train and test.",
        "AMD EPYC 7763, 2 cores, 25 GB",
        "6,000",
    ):
        assert text in last, text


def test_what_the_verdict_rests_on(pages: dict[str, Path]) -> None:
    assert (
        "Rests on: Accuracy on 1,066 test rows; 3 seeds a method, the same for all; 95% intervals over rows and seeds; "
        "a margin of 1 point for “equivalent”; Holm’s correction over 3 comparisons with Full fine-tuning; those that "
        "may be best hold the truly best one in 95% of contests."
    ) in visible(pages["three"].read_text(encoding="utf-8"))
    one = visible(pages["one_seed"].read_text(encoding="utf-8"))
    assert "one seed a method: it is about these models, not about the methods" in one
    assert "over rows and seeds" not in one
    assert "not measured" in one


def test_lower_is_better_is_turned_and_forgetting_is_shown(pages: dict[str, Path]) -> None:
    study, page = study_of(pages["chat"]), pages["chat"].read_text(encoding="utf-8")
    means = [float(row.partition("[")[0].split()[-1]) for row in rows_of(page, "contest-table")]
    assert means == sorted(means)
    assert "Perplexity (lower is better)" in page
    assert "a margin of 0.05 in perplexity" in visible(page)
    assert "↙ better" in section(page, "pareto")
    worse = max(study["comparisons"], key=lambda one: one["difference"])
    row = next(row for row in rows_of(page, "forest") if f"−{worse['difference']:.3f}" in row)
    assert f"[−{worse['high']:.3f}, " in row
    forgotten = rows_of(page, "forgetting")
    assert len(forgotten) == len(study["methods"])
    for method in study["methods"]:
        one = method["forgetting"]
        row = next(row for row in forgotten if row.startswith(method["title"] + " "))
        assert f"+{one['difference']:.3f}" in row
        assert f"{one['before']:.3f} {one['after']:.3f}" in row
    assert forgotten[-1].startswith("Full fine-tuning")
    assert section(page, "forgetting").count("whiskers undecided") == sum(
        one["forgetting"]["low"] <= 0 for one in study["methods"]
    )


def test_what_runs_is_shown_as_far_as_it_is(pages: dict[str, Path]) -> None:
    page = pages["running"].read_text(encoding="utf-8")
    text = visible(page)
    assert "This study is still running: 4 of 9 runs done." in text
    assert "It will rest on: Accuracy on 1,066 test rows" in text
    assert "1 of 3 ●◐○ (1 done, 1 running, 1 waiting)" in text
    for anchor in ("forest", "uncertainty", "pareto"):
        assert f'id="{anchor}"' not in page
    assert section(page, "learning")


def test_what_failed_says_why(pages: dict[str, Path]) -> None:
    page = pages["failed"].read_text(encoding="utf-8")
    methods = rows_of(page, "contest-table")
    assert methods[-1].startswith("vera failed: The loss was nan at step 12")
    assert "cut: Cut for the budget" in methods[-2]
    runs = [row for row in rows_of(page, "runs") if row.startswith("vera")]
    assert len(runs) == 3
    assert all("✕ failed loss is nan at step 12" in row for row in runs)
    assert section(page, "tuning").count('class="cross"') == 2
    assert "Without a result or without its training time of one run: IA3, vera." in visible(section(page, "pareto"))


def test_a_stopped_study_says_how_it_goes_on(tmp_path: Path) -> None:
    study = studies.contest(["full", "lora"], 2) | {"status": "stopped"}
    page = write_study_report(studies.write_study(tmp_path, study)).read_text(encoding="utf-8")
    assert "its status is “stopped”. 4 of 4 runs done. The same command goes on where it was." in visible(page)


def test_a_single_method_is_weighed_against_nothing(pages: dict[str, Path]) -> None:
    page = pages["single"].read_text(encoding="utf-8")
    for anchor in ("pareto", "forest", "uncertainty"):
        assert f'id="{anchor}"' not in page
    assert "Full fine-tuning on reviews.csv" in visible(page)


def test_choices_need_no_script(pages: dict[str, Path]) -> None:
    page = pages["three"].read_text(encoding="utf-8")
    picture = section(page, "pareto")
    assert picture.count('<input type="radio"') == picture.count('<div class="choice">') == 5
    assert picture.count(" checked>") == 1
    for place in range(1, 6):
        assert f'id="cost-{place}"' in picture
        assert f'<label for="cost-{place}">' in picture
        assert f".pick:nth-of-type({place}):checked ~ .choice:nth-of-type({place + 1})" in page


def test_rates_may_be_chosen_by_another_metric_and_runs_have_many(tmp_path: Path) -> None:
    study = studies.contest(["full", "lora"], 2) | {"tuned_by": "log_loss"}
    for run in study["methods"][0]["runs"]:
        run["metrics"] |= {f"metric_{i}": i / 7 for i in range(8)}
    study["tuning"][0] |= {"state": "failed", "reason": "the loss grew beyond all bounds", "value": None}
    page = write_study_report(studies.write_study(tmp_path, study)).read_text(encoding="utf-8")
    assert "Validation log loss (lower is better)" in section(page, "tuning")
    assert "Validation log loss (lower is better)" in section(page, "learning")
    assert "the loss grew beyond all bounds" in visible(section(page, "tuning"))
    assert "All 10 other metrics" in section(page, "runs")
    assert "Full fine-tuning 0 0.340" in visible(section(page, "runs"))
    assert "0.340" not in rows_of(page, "runs")[0]


def test_halved_and_chosen_rates_are_told_apart(pages: dict[str, Path]) -> None:
    page = section(pages["three"].read_text(encoding="utf-8"), "tuning")
    assert page.count('class="ring"') == 3
    assert page.count('class="mark hollow"') == 6
    assert visible(page).count("done, chosen") == 3


def test_many_methods_get_a_drawing_each(pages: dict[str, Path]) -> None:
    page = pages["crowded"].read_text(encoding="utf-8")
    for anchor, drawings in (("tuning", 48), ("learning", 48)):
        assert section(page, anchor).count('class="small-panel"') == drawings
    few = pages["chat"].read_text(encoding="utf-8").partition("</style>")[2]
    assert "small-panel" not in few


def test_folds(pages: dict[str, Path]) -> None:
    study, page = study_of(pages["folds"]), pages["folds"].read_text(encoding="utf-8")
    folds = rows_of(page, "runs")
    for fold in study["folds"]:
        row = next(row for row in folds if row.endswith(fold["folder"]))
        assert row.startswith(f"{fold['repeat']} {fold['fold']} ● done {points(fold['metrics']['accuracy'])}")
        assert f"{fold['metrics']['log_loss']:.3f} {fold['rows']['test']:,}" in row
    accuracy, loss = rows_of(page, "fold-metrics")
    found = study["metrics"]["accuracy"]
    assert f"{points(found['value'])} [{points(found['low'])}, {points(found['high'])}]" in accuracy
    assert accuracy.endswith(" 9")
    assert "lower is better" in loss
    assert "corrected variance of Nadeau and Bengio" in visible(page)
    assert section(page, "repeats").count('class="seed"') == 10


def test_search(pages: dict[str, Path]) -> None:
    study, page = study_of(pages["search"]), pages["search"].read_text(encoding="utf-8")
    rows = rows_of(page, "runs")
    assert len(rows) == 40
    for trial in study["trials"]:
        row = next(row for row in rows if row.endswith(trial["folder"]))
        assert points(trial["value"]) in row
        assert str(trial["values"]["method.rank"]) in row
        assert trial["values"]["train.schedule"] in row
        assert trial["reason"] in row
    best = visible(section(page, "best"))
    assert best.startswith(f"Best configuration Trial {study['best']['number']}: Accuracy")
    assert section(page, "slices").count('class="small-panel"') == 4
    assert "train.learning_rate train.learning_rate: 71% 71%" in visible(section(page, "importance"))
    assert "31 done, 8 pruned, 1 failed" in visible(page)


def test_hostile_texts_stay_texts(pages: dict[str, Path]) -> None:
    page, checker = check(pages["hostile"], frozenset({"runs/full/seed-0/report.html"}))
    assert page.count("<script") == 1
    assert "img" not in checker.tags
    assert not re.search("[\x00\x1b\ud800]", page)
    assert "javascript:" not in re.sub(r">[^<]*<", "><", page.partition("</style>")[2])
    assert "alert(&#34;x&#34;)" in page


def test_runs_outside_of_the_study_are_not_linked_to(tmp_path: Path) -> None:
    study = studies.contest(["full"], 3)
    for run, folder in zip(study["methods"][0]["runs"], ("../other", "runs/a b#?", "runs/\x00"), strict=True):
        run["folder"] = folder
    for folder in ("other", "study/runs/a b#?"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "report.html").write_text("")
    (tmp_path / "study" / "study.json").write_text(json.dumps(study))
    page = write_study_report(tmp_path / "study").read_text(encoding="utf-8")
    assert re.findall(r'<a href="([^#"][^"]*)"', page) == ["runs/a%20b%23%3F/report.html"]


def test_a_page_elsewhere_links_back(tmp_path: Path) -> None:
    studies.write_study(tmp_path / "study", studies.contest(["full"], 1))
    page = write_study_report(tmp_path / "study", tmp_path / "pages" / "of it.html").read_text(encoding="utf-8")
    assert '<a href="../study/runs/full/seed-0/report.html">' in page


def test_a_study_may_say_next_to_nothing(tmp_path: Path) -> None:
    for kind in ("contest", "cross-validation", "search"):
        for more in ({}, {"status": "running"}, dict.fromkeys(("methods", "comparisons", "trials", "folds", "rows"))):
            (tmp_path / "study.json").write_text(json.dumps({"kind": kind, "unknown": 1} | more))
            page, _ = check(write_study_report(tmp_path))
            assert not re.search(r"\bnan\b|\bNone\b", visible(page))


ODD = (None, math.nan, math.inf, -math.inf, 0, -1, 1e-320, 1e308, -1e308, 3)
"""Numbers that no study should hold."""


def spoil(node: Any, generator: random.Random, share: float) -> None:
    """Put odd numbers and empty parts in the place of some parts of a study."""
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        part = node[key]
        if isinstance(part, dict | list):
            if isinstance(node, dict) and isinstance(part, list) and generator.random() < share / 4:
                node[key] = []
            else:
                spoil(part, generator, share)
        elif isinstance(part, int | float) and not isinstance(part, bool) and key not in ("version", "confidence"):
            node[key] = generator.choice(ODD) if generator.random() < share else part


@pytest.mark.parametrize("seed", range(8))
def test_no_number_keeps_the_page_from_being_written(tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    made = (studies.contest(["full", "lora", "ia3"], 2), studies.folds(), studies.trials(8))
    for study in made:
        spoil(study, generator, (0.02, 0.1, 0.5, 1.0)[seed % 4])
        (tmp_path / "study.json").write_text(json.dumps(study))
        page, _ = check(write_study_report(tmp_path))
        assert not re.search(r"\bnan\b(?! at)|\binf\b|\bNone\b", visible(page))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "has no study.json"),
        ("{", "line 1, column 2"),
        ("{}", "kind: field required"),
        ('{"kind": "race"}', "kind is “race”; expected one of contest, cross-validation, search"),
        ('{"kind": "contest", "methods": [{"name": "a", "mean": "good"}]}', "methods.0.mean"),
    ],
)
def test_what_is_no_study_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "study.json").write_text(text)
    with pytest.raises(InputError, match=re.escape(said)):
        write_study_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_the_command_and_write_report_know_studies(tmp_path: Path) -> None:
    folder = studies.write_study(tmp_path / "study", studies.contest(["full", "lora"], 2))
    result = CliRunner().invoke(tunesmith, ["report", str(folder)])
    assert result.exit_code == 0, result.output
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "2 methods on reviews.csv" in page
    assert write_report([folder], folder) == folder / "report.html"
    assert (folder / "report.html").read_text(encoding="utf-8") == page
    with pytest.raises(InputError, match="cannot stand beside other folders"):
        write_report([folder, folder / "runs"], tmp_path / "page.html")
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        write_study_report(folder, tmp_path / "mine.html")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["three", "folds", "search"])
def test_chromium_runs_the_page_without_errors(pages: dict[str, Path], tmp_path: Path, kind: str) -> None:
    result = open_in_chromium(pages[kind], tmp_path)
    assert result.stdout.count('class="tip"') == 2, "one of the scripts did not run to its end"
    assert 'aria-label="' in result.stdout
    assert "CONSOLE" not in result.stderr
