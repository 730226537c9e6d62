"""The routes of the studio, asked in process: what they give, and whom and what they refuse."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from small_runs import small_config
from tunesmith.report import write_report
from tunesmith.run import Run, train
from tunesmith.serve.settings import ServeSettings
from tunesmith.studio.found import find, found_in, id_of, process_at
from tunesmith.studio.jobs import Jobs, problems_in
from tunesmith.studio.processes import Process, holder
from tunesmith.studio.workplace import Workplace, plain_name

pytest.importorskip("starlette")
pytest.importorskip("httpx")
from starlette.testclient import TestClient

HOME = "http://127.0.0.1:8765"
HOSTILE = "<img src=x onerror=alert(1)>\u202e../../etc/passwd"
MOST = 200_000


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, reviews: Path, bert_folder: Path) -> Workplace:
    """One finished run, one that was stopped, one of a sweep, and a study, below a root."""
    root = tmp_path_factory.mktemp("studio") / "runs"
    config = small_config(
        reviews,
        bert_folder,
        root / "labels",
        train={"max_steps": 4, "evaluate_steps": 2},
        evaluation={"num_resamples": 10, "baseline": False},
    )
    folder = train(config)
    write_report([folder], folder / "report.html")
    for name in ("stopped", "sweep/a"):
        (root / name).mkdir(parents=True)
        shutil.copy(folder / "config.yaml", root / name)
    shutil.copy(folder / "metrics.jsonl", root / "stopped")
    study = root / "contest"
    (study / "runs" / "full").mkdir(parents=True)
    shutil.copytree(folder, study / "runs" / "full" / "seed-0")
    (study / "study.json").write_text(json.dumps(STUDY))
    shutil.copy(folder / "report.html", study)
    place = Workplace(root)
    place.prepare()
    return place


STUDY: dict[str, Any] = {
    "kind": "contest",
    "status": "finished",
    "metric": "accuracy",
    "higher_is_better": True,
    "reference": "full",
    "verdict": f"full is best. {HOSTILE}",
    "comparisons": [{"method": "lora", "verdict": "worse"}],
    "methods": [
        {
            "name": "full",
            "state": "done",
            "mean": 0.9,
            "low": 0.8,
            "high": float("nan"),
            "runs": [{"seed": 0, "state": "done", "value": 0.9, "folder": "runs/full/seed-0"}],
        },
        {"name": "lora", "state": "failed", "reason": HOSTILE, "mean": None, "runs": []},
    ],
}


def client_of(place: Workplace) -> TestClient:
    from tunesmith.studio.application import application

    return TestClient(application(place, ServeSettings(port=8765), most_upload_bytes=MOST), base_url=HOME)


@pytest.fixture(scope="module")
def client(place: Workplace) -> Iterator[TestClient]:
    with client_of(place) as client:
        assert client.get("/", params={"key": place.key()}).status_code == 200
        yield client


def post(client: TestClient, path: str, content: Any = None, **headers: str) -> Any:
    return client.post(path, content=json.dumps(content or {}), headers={"content-type": "application/json", **headers})


def send(client: TestClient, name: str, content: Any, **headers: str) -> Any:
    kind = {"content-type": "application/octet-stream", **headers}
    return client.post("/api/uploads", params={"name": name}, content=content, headers=kind)


def draft(**values: Any) -> dict[str, Any]:
    return {"draft": {"data": "sample:rotten-tomatoes", "model": "lstm", **values}}


def test_nobody_is_answered_without_the_key(place: Workplace) -> None:
    stranger = client_of(place)
    assert stranger.get("/").status_code == 200
    answer = stranger.get("/api/home")
    assert answer.status_code == 401
    assert "tunesmith studio" in answer.json()["error"]["message"]
    assert stranger.get(f"/reports/{id_of('labels')}/report.html").status_code == 401
    assert post(stranger, "/api/train", draft()).status_code == 401
    assert "set-cookie" not in stranger.get("/", params={"key": "guessed"}).headers
    stranger.cookies.set("tunesmith-studio-8765", "guessed")
    assert stranger.get("/api/home").status_code == 401
    stranger.cookies.clear()
    answer = stranger.get("/", params={"key": place.key()}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert stranger.get("/api/home").status_code == 200


def test_an_old_key_is_made_anew(place: Workplace) -> None:
    other = Workplace(place.root / "other")
    other.prepare()
    key, path = other.key(), other.own / "key"
    assert other.key() == key
    assert path.stat().st_mode & 0o077 == 0
    old = time.time() - 40 * 86400
    os.utime(path, (old, old))
    assert other.key() != key
    shutil.rmtree(other.root)


def test_every_answer_keeps_the_page_to_itself(client: TestClient) -> None:
    for path in ("/", "/static/main.js", "/api/home", "/api/nothing", "/health"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_other_hosts_origins_and_kinds_of_requests_are_refused(client: TestClient) -> None:
    assert client.get("/api/home", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/api/home", headers={"origin": "http://evil.example"}).status_code == 403
    assert client.get("/api/home", headers={"origin": HOME}).status_code == 200
    assert post(client, "/api/commands", draft(), origin="null").status_code == 403
    assert post(client, "/api/commands", draft(), **{"sec-fetch-site": "cross-site"}).status_code == 403
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = client.post("/api/train", content=json.dumps(draft()), headers={"content-type": kind})
        assert answer.status_code == 415
    assert client.delete(f"/api/uploads/{'0' * 8}-a.csv").status_code == 415
    assert client.post("/api/home", headers={"content-type": "application/json"}).status_code == 405
    assert post(client, "/api/commands", {"draft": {"data": "x" * 5_000_000}}).status_code == 413


def test_only_listed_files_are_given(client: TestClient) -> None:
    for name in ("main.js", "studio.css", "report.css", "pages/run.js", "languages/zh.json", "icon.svg", "index.html"):
        assert client.get(f"/static/{name}").status_code == 200, name
    for path in (
        "/static/../server.py",
        "/static/..%2fserver.py",
        "/static/%2e%2e/guards.py",
        "/static//etc/passwd",
        "/static/",
    ):
        assert client.get(path).status_code == 404, path


def test_home_lists_runs_and_studies(client: TestClient, place: Workplace) -> None:
    home = client.get("/api/home").json()
    found = {one["name"]: one for one in home["found"]}
    assert set(found) == {"labels", "stopped", "sweep/a", "contest"}
    assert found["labels"]["state"] == "finished"
    assert found["labels"]["headline"]["name"] == "accuracy"
    assert (found["stopped"]["state"], found["stopped"]["task"]) == ("stopped", "classification")
    assert (found["contest"]["kind"], found["contest"]["methods"]) == ("study", ["full", "lora"])
    assert home["machine"]["memory"] > 0
    assert home["root"] == str(place.root)


@pytest.mark.parametrize("name", ["0" * 16, "labels", "..", "..%2f..%2fetc", "%2e%2e%2flabels", "a\x00b", "x" * 4000])
def test_names_that_were_not_listed_lead_nowhere(client: TestClient, name: str) -> None:
    from urllib.parse import quote

    for path in ("", "/progress"):
        assert client.get(f"/api/found/{quote(name, safe='%')}{path}").status_code == 404
    assert post(client, f"/api/found/{quote(name, safe='%')}/stop").status_code == 404
    assert client.get(f"/api/jobs/{quote(name, safe='%')}").status_code == 404


def test_a_run_tells_its_figures_and_steps(client: TestClient, place: Workplace) -> None:
    facts = client.get(f"/api/found/{id_of('labels')}").json()
    assert facts["has_report"]
    assert facts["route"] == "classify"
    assert facts["training"]["steps"] == 4
    assert {one["name"] for one in facts["metrics"]} >= {"accuracy", "macro_f1"}
    progress = client.get(f"/api/found/{id_of('labels')}/progress").json()
    assert [one["step"] for one in progress["steps"]] == [1, 2, 3, 4]
    assert len(progress["checks"]) == 2
    assert list(progress["titles"].items())[:2] == [("accuracy", "Accuracy"), ("macro_f1", "Macro F1")]
    assert progress["total_steps"] == 4
    again = client.get(f"/api/found/{id_of('labels')}/progress?after={progress['next']}").json()
    assert (again["steps"], again["next"]) == ([], progress["next"])
    anew = client.get(f"/api/found/{id_of('labels')}/progress?after=99999999").json()
    assert len(anew["steps"]) == 4, "a file that was cut is read from its beginning"
    for odd in ("-1", "x", "9" * 40):
        assert client.get(f"/api/found/{id_of('labels')}/progress?after={odd}").status_code == 200


def test_a_line_that_is_being_written_waits(place: Workplace, client: TestClient) -> None:
    path = place.root / "stopped" / "metrics.jsonl"
    content = path.read_bytes()
    path.write_bytes(content + b'{"kind": "step", "st')
    try:
        progress = client.get(f"/api/found/{id_of('stopped')}/progress").json()
        assert progress["next"] == len(content)
    finally:
        path.write_bytes(content)


def test_a_study_tells_its_table_and_leads_to_its_runs(client: TestClient) -> None:
    facts = client.get(f"/api/found/{id_of('contest')}").json()
    assert HOSTILE in facts["verdict"]
    full, lora = facts["lines"]
    assert (full["mean"], full["high"]) == (0.9, None)
    assert (lora["reason"], lora["verdict"]) == (HOSTILE, "worse")
    run = client.get(f"/api/found/{full['runs'][0]['id']}").json()
    assert run["name"] == "contest/runs/full/seed-0"
    assert run["state"] == "finished"


def test_reports_may_run_their_own_scripts_alone(client: TestClient) -> None:
    import re

    answer = client.get(f"/reports/{id_of('labels')}/report.html")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    hashed = re.search(r"script-src '(sha256-[^']+)'", answer.text)
    assert hashed is not None
    assert hashed[1] in policy
    assert "unsafe" not in policy.partition("script-src")[2]
    study = f"/reports/{id_of('contest')}"
    assert client.get(f"{study}/report.html").status_code == 200
    assert client.get(f"{study}/runs/full/seed-0/report.html").status_code == 200
    for path in (
        "runs/full/seed-0/config.yaml",
        "../labels/report.html",
        "..%2flabels%2freport.html",
        "%2e%2e/labels/report.html",
    ):
        assert client.get(f"{study}/{path}").status_code == 404, path


def test_a_page_that_is_no_report_is_not_given(client: TestClient, place: Workplace) -> None:
    path = place.root / "stopped" / "report.html"
    path.write_text("<script>alert(1)</script>")
    assert client.get(f"/reports/{id_of('stopped')}/report.html").status_code == 404
    path.unlink()


def test_uploads_get_names_of_their_own(client: TestClient, place: Workplace) -> None:
    content = b"text,label\na joy,good\n"
    for name in (
        "reviews.csv",
        "../../evil.csv",
        "C:\\x\\..\\y.CSV",
        ".hidden.csv",
        HOSTILE,
        "影评.csv",
        "",
        "a" * 500 + ".csv",
    ):
        answer = send(client, name, content)
        assert answer.status_code == 201, answer.text
        found = answer.json()
        path = Path(found["path"])
        assert path.parent == place.uploads
        assert path.read_bytes() == content
        assert "/" not in found["name"]
        assert found["id"] == path.name
    listed = client.get("/api/uploads").json()
    assert {"reviews.csv", "evil.csv", "影评.csv"} <= {one["name"] for one in listed["uploads"]}
    assert len(listed["uploads"]) == 8
    for one in listed["uploads"]:
        answer = client.request("DELETE", f"/api/uploads/{one['id']}", headers={"content-type": "application/json"})
        assert answer.status_code == 200
    assert not list(place.uploads.iterdir())
    headers = {"content-type": "application/json"}
    for name in ("../key", "..%2fkey", "key", "%2e%2e%2fkey"):
        assert client.request("DELETE", f"/api/uploads/{name}", headers=headers).status_code == 404
    assert (place.own / "key").exists()


def test_uploads_that_are_too_large_empty_or_broken_off_leave_nothing(client: TestClient, place: Workplace) -> None:
    answer = send(client, "a.csv", b"x" * (MOST + 1))
    assert answer.status_code == 413

    def pieces() -> Iterator[bytes]:
        for _ in range(MOST // 1000 + 10):
            yield b"x" * 1000

    answer = send(client, "a.csv", pieces())  # its length is not said beforehand
    assert answer.status_code == 413
    assert "path" in answer.json()["error"]["message"]
    assert send(client, "a.csv", b"").status_code == 400
    assert send(client, "a.csv", b"abc", **{"content-length": "10"}).status_code == 400
    assert client.post("/api/uploads", content=b"x", headers={"content-type": "text/csv"}).status_code == 415
    assert not list(place.uploads.iterdir())


def test_commands_are_words_that_no_shell_would_change(client: TestClient, place: Workplace) -> None:
    sent = send(client, "my reviews.csv", b"text,label\na,b\n").json()
    asked = {
        "data": sent["id"],
        "model": "lstm",
        "method": "lora",
        "columns": {"text": "it's $(rm -rf) text", "label": ""},
        "settings": ["train.epochs=2", "method.rank=4", "data.limit=10"],
        "methods": ["full", "lora(rank=4)"],
        "seeds": 2,
    }
    found = post(client, "/api/commands", {"draft": asked, "within": "10m"}).json()
    import shlex

    words = shlex.split(found["train"])
    assert words[:2] == ["tunesmith", "train"]
    flags = dict(zip(words[2::2], words[3::2], strict=True))
    assert flags == {
        "--model": "lstm",
        "--data": sent["path"],
        "--data.columns.text": "it's $(rm -rf) text",
        "--data.limit": "10",
        "--method": "lora",
        "--train.epochs": "2",
        "--method.rank": "4",
        "--output": str(place.root / "my-reviews-lstm-lora"),
    }
    assert "--methods 'full,lora(rank=4)'" in found["compare"]
    assert "--method.rank" not in found["compare"]
    assert "--within 10m" in found["plan"]
    assert shlex.split(found["look"])[:4] == ["tunesmith", "data", "inspect", sent["path"]]
    named = post(client, "/api/commands", {"draft": {**asked, "name": "../../labels"}}).json()
    assert named["train"].endswith(f"--output {place.root / 'labels-2'}")
    client.request("DELETE", f"/api/uploads/{sent['id']}", headers={"content-type": "application/json"})


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"model": "--overwrite"}, "dashes"),
        ({"data": "-x"}, "dashes"),
        ({"data": "a\nb"}, "cannot be seen"),
        ({"model": ""}, "model"),
        ({"data": ""}, "data"),
        ({"settings": ["epochs"]}, "key with a value"),
        ({"settings": ["output=/etc"]}, "field of its own"),
        ({"settings": ["--output=/etc"]}, "field of its own"),
        ({"settings": ["train.epochs=--overwrite"]}, "dashes"),
        ({"columns": {"a.b c": "x"}}, "no role"),
        ({"methods": ["full --overwrite"]}, "not a method"),
        ({"seeds": 1000}, "seeds"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_cannot_be_a_command_is_refused_with_its_reason(
    client: TestClient, values: dict[str, Any], told: str
) -> None:
    answer = post(client, "/api/train", draft(**values))
    assert answer.status_code == 400
    assert told in answer.json()["error"]["message"]


def test_bodies_that_are_no_drafts_are_refused(client: TestClient) -> None:
    headers = {"content-type": "application/json"}
    for body in (b"", b"[]", b"{", b'{"draft": 1}', b'{"draft": {"data": "\\ud800"}}', b"\xff\xfe"):
        assert client.post("/api/train", content=body, headers=headers).status_code == 400, body


def test_a_run_is_tried_as_it_predicts(client: TestClient, place: Workplace) -> None:
    name = id_of("labels")
    opened = post(client, f"/api/found/{name}/open").json()
    assert (opened["route"], opened["inputs"], opened["labels"]) == ("classify", ["text"], ["bad", "good"])
    texts = ["a great film", HOSTILE.replace("\u202e", "")]
    found = post(client, f"/api/found/{name}/try/classify", {"texts": texts}).json()
    expected = Run.open(place.root / "labels").predict(texts)
    assert [one["label"] for one in found["results"]] == [one["label"] for one in expected]
    assert (
        post(client, f"/api/found/{name}/try/chat", {"messages": [{"role": "user", "content": "x"}]}).status_code == 400
    )
    assert post(client, f"/api/found/{name}/try/nothing", {}).status_code == 404
    assert post(client, f"/api/found/{name}/try/classify", {"texts": []}).status_code == 400
    refused = post(client, f"/api/found/{id_of('stopped')}/open")
    assert refused.status_code == 409
    assert "did not finish" in refused.json()["error"]["message"]


def test_a_chat_is_written_piece_by_piece(
    client: TestClient, place: Workplace, llama_folder: Path, tmp_path: Path
) -> None:
    from run.test_contract import TASK_ROWS, write_rows

    task, settings, example = TASK_ROWS["chat"]
    train(
        small_config(
            write_rows(tmp_path, example),
            llama_folder,
            place.root / "sweep" / "chat",
            task={"name": task, **settings},
            train={"max_steps": 2, "evaluate_steps": 2},
            evaluation={"num_resamples": 10, "baseline": False, "answers": 0},
        )
    )
    name = id_of("sweep/chat")
    assert post(client, f"/api/found/{name}/open").json()["route"] == "chat"
    asked = {"messages": [{"role": "user", "content": "what great 3?"}], "max_tokens": 8, "stream": True}
    answer = post(client, f"/api/found/{name}/try/chat", asked)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [one.removeprefix("data: ") for one in answer.text.split("\n\n") if one]
    assert events[-1] == "[DONE]"
    assert len(events) > 2
    shutil.rmtree(place.root / "sweep" / "chat")


def test_orders_that_make_no_sense_are_refused(client: TestClient) -> None:
    for name, order in (
        ("labels", "stop"),
        ("labels", "resume"),
        ("stopped", "stop"),
        ("stopped", "serve"),
        ("contest", "resume"),
    ):
        answer = post(client, f"/api/found/{id_of(name)}/{order}")
        assert answer.status_code == 409, (name, order)
        assert answer.json()["error"]["message"]
    assert post(client, f"/api/found/{id_of('stopped')}/export", {"to": "onnx"}).status_code == 409
    assert post(client, f"/api/found/{id_of('labels')}/export", {"to": "--overwrite"}).status_code == 400


def test_what_can_be_chosen_has_a_line_each(client: TestClient) -> None:
    parts = client.get("/api/parts").json()
    for kind in ("models", "data", "tasks", "methods"):
        assert all(one["name"] and one["line"] for one in parts[kind]), kind
    assert parts["methods"][0]["name"] == "full"
    assert {one["name"] for one in parts["targets"]} >= {"onnx", "safetensors"}


def test_commands_are_known_to_the_next_studio(place: Workplace) -> None:
    jobs = Jobs(place)
    job = jobs.start("plan", ["nothing"], shown=["plan", "x y"])
    while jobs.is_alive(job):
        time.sleep(0.05)
    found = Jobs(place).find(job.id)
    assert found == job
    told = jobs.to_json(job)
    assert (told["state"], told["command"]) == ("failed", "tunesmith plan 'x y'")
    assert Jobs(place).to_json(job)["state"] == "failed"
    assert any("nothing" in one["message"] for one in told["problems"])
    assert jobs.find("../" + job.id) is None


def test_problems_are_told_in_the_words_of_the_command_line() -> None:
    log = (
        "reading the data ...\nNote: Task found: x.\n  → Use --task.\nstep 1/2\nError: It is not there.\n  → Give it.\n"
        "  → Or another.\n2 problems; nothing was done.\n"
    )
    assert problems_in(log) == [
        {"severity": "note", "message": "Task found: x.", "fix": "Use --task."},
        {"severity": "error", "message": "It is not there.", "fix": "Give it.\nOr another."},
    ]


def test_a_process_is_known_by_its_number_and_its_beginning(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        began = psutil.Process(child.pid).create_time()
        process = Process(child.pid, began)
        assert process.is_alive
        assert process.memory
        other = Process(child.pid, began - 1000)
        assert not other.is_alive
        assert not other.stop()
        now = datetime.now(UTC)
        written = {"pid": child.pid, "host": socket.gethostname(), "since": now.isoformat()}
        assert holder(written) == process
        assert holder({**written, "host": "another"}) is None
        assert holder({**written, "since": (now - timedelta(days=1)).isoformat()}) is None, "the number is another's"
        for damaged in (None, [], {}, {"pid": "x", "host": socket.gethostname(), "since": "x"}):
            assert holder(damaged) is None
        (tmp_path / ".lock-holder.json").write_text(json.dumps(written))
        assert process_at(tmp_path) == process
        assert process.stop()
        child.wait(10)
        assert process_at(tmp_path) is None
    finally:
        child.kill()
        child.wait()


def test_links_and_hidden_folders_are_not_followed(tmp_path: Path, place: Workplace) -> None:
    root = tmp_path / "runs"
    (root / ".studio" / "x").mkdir(parents=True)
    (root / ".studio" / "x" / "config.yaml").write_text("model: x")
    (root / "link").symlink_to(place.root / "labels")
    assert found_in(root) == []
    assert find(root, id_of("link")) is None


def test_names_become_plain() -> None:
    assert plain_name("../../Etc/Passwd") == "etc-passwd"
    assert plain_name("影评") == "run"
    assert len(plain_name("a" * 1000)) == 60


def test_a_port_that_is_taken_and_a_root_that_is_none_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tunesmith.cli.application import run

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert run(["studio", "--root", str(tmp_path / "runs"), "--port", port, "--no-browser"]) == 2
    assert f"port {port}" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert run(["studio", "--root", str(tmp_path / "file"), "--no-browser"]) == 2
    assert run(["studio", "--root", str(tmp_path / "file" / "runs"), "--no-browser"]) == 2
    assert "file" in capsys.readouterr().err


def test_a_run_that_sees_is_tried_with_images_and_with_nothing_else(
    client: TestClient, place: Workplace, tmp_path: Path
) -> None:
    pytest.importorskip("PIL")
    import base64
    import io

    from images import picture, seeing_folder
    from serve.running import trained

    trained("pictures", "images", tmp_path, seeing_folder(tmp_path)).rename(place.root / "pictures")
    try:
        run = f"/api/found/{id_of('pictures')}"
        found = post(client, f"{run}/open").json()
        assert (found["route"], found["sees"], found["inputs"]) == ("classify", True, ["image"])
        file = io.BytesIO()
        picture(1).save(file, "PNG")
        asked = {"images": [f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"]}
        answer = post(client, f"{run}/try/classify", asked)
        assert answer.status_code == 200, answer.text
        assert answer.json()["results"][0].keys() == {"label", "score", "probabilities"}
        for name in ("/etc/passwd", f"file://{tmp_path}/1.png", "https://example.org/a.png"):
            answer = post(client, f"{run}/try/classify", {"images": [name]})
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_image")
        assert post(client, f"{run}/try/predict", {"rows": [{"image": "/etc/passwd"}]}).status_code == 400
        large = {**asked, "padding": "x" * 5_000_000}
        assert post(client, f"{run}/try/classify", large).status_code == 200
        assert post(client, "/api/look", large).status_code == 413, "nothing else may be as large"
        assert post(client, f"/api/found/{id_of('labels')}/open").json()["sees"] is False
    finally:
        shutil.rmtree(place.root / "pictures")


def test_how_large_a_model_is_is_asked_of_the_hub_by_its_name_alone(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from tunesmith.models import hub_weights

    asked: list[str] = []

    def answer(name: str, _: str | None) -> Any:
        asked.append(name)
        return SimpleNamespace(
            siblings=[SimpleNamespace(rfilename="model.safetensors", size=5_000_000_000_000_000)],
            safetensors=SimpleNamespace(total=10**15),
        )

    monkeypatch.setattr(hub_weights, "_asked", answer)
    found = post(client, "/api/size", {"name": "org/name"}).json()
    assert (found["download"], found["memory"], found["weights"]) == (5 * 10**15, 4 * 10**15, 10**15)
    assert (found["fits_disk"], found["fits_memory"], found["is_here"]) == (False, False, False)
    assert found["disk"] > 0
    assert found["free_memory"] > 0
    for name in ("lstm", "sample:minilm", "../../etc/passwd", "https://example.org/a", HOSTILE, ""):
        assert post(client, "/api/size", {"name": name}).json() == {"known": False}
    assert asked == ["org/name"]
    assert post(client, "/api/size", {"name": "a" * 300}).status_code == 400
    assert post(client, "/api/size", {"path": "x"}).status_code == 400
