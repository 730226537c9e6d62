"""Runs for others: what goes and what stays, into a folder and to a hub of the tests' own."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from small_runs import small_config
from tunesmith.cli.application import run as command
from tunesmith.files.manifest import verify_manifest
from tunesmith.hub import push
from tunesmith.run import Run, RunConfig, train
from tunesmith.types import InputError, RunError

if TYPE_CHECKING:
    from starlette.requests import Request

Configure = Callable[..., RunConfig]
SHORT = {"max_steps": 2, "evaluate_steps": 2}
TOKEN = "hf_abcdefghijklmnop"


@pytest.fixture(scope="module")
def whole(reviews: Path, bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp("whole") / "run"
    return Run.open(train(small_config(reviews, bert_folder, place, train=SHORT, evaluation={"keep_scores": True})))


@pytest.fixture
def adapter(configured: Configure) -> Run:
    return Run.open(train(configured(train=SHORT, method="lora")))


def texts_of(run: Run) -> list[str]:
    import pyarrow.parquet as pq

    texts: list[str] = pq.read_table(run.folder / "predictions.parquet").column("text").to_pylist()
    return texts


def test_a_folder_has_the_model_and_its_card_and_no_rows(whole: Run, tmp_path: Path) -> None:
    from transformers import pipeline

    planned = push(whole, f"file:{tmp_path}/model", dry_run=True)
    assert not (tmp_path / "model").exists()
    done = push(whole, f"file:{tmp_path}/model")
    place = tmp_path / "model"
    names = {path.name for path in place.iterdir()}
    assert names == set(done.files) == set(planned.files)
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= names
    assert not names & {"predictions.parquet", "evaluation.json", "config.yaml", "metrics.jsonl", "scores.npz"}
    left = {one.name: one for one in done.left}
    assert left["predictions.parquet"].holds_texts
    assert not left["metrics.jsonl"].holds_texts
    text = texts_of(whole)[0]
    assert not any(text.encode() in path.read_bytes() for path in place.iterdir())
    assert str(Path(whole.config.model.name).parent) not in (place / "README.md").read_text()
    found = pipeline("text-classification", str(place))(text)
    assert found[0]["label"] == whole.predict([text])[0]["label"]
    more = push(whole, str(tmp_path / "more"), with_predictions=True)
    assert {"predictions.parquet", "evaluation.json", "scores.npz"} <= set(more.files)
    with pytest.raises(InputError, match="is there already"):
        push(whole, str(tmp_path / "more"))
    with pytest.raises(InputError, match="neither private nor has it branches"):
        push(whole, str(tmp_path / "other"), private=True)


def test_an_adapter_whose_base_nobody_has_is_merged_or_refused(adapter: Run, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    with pytest.raises(InputError, match="beside a base model that is not on the hub"):
        push(adapter, "org/reviews", dry_run=True)
    assert "adapter_model.safetensors" in push(adapter, f"{tmp_path}/adapter", dry_run=True).files
    done = push(adapter, f"{tmp_path}/merged", merged=True)
    assert "model.safetensors" in done.files
    assert not {"adapter_config.json", "export.json"} & set(done.files)
    assert not (adapter.folder / "exports.jsonl").exists(), "what was merged on the way does not stay"
    card = (tmp_path / "merged" / "README.md").read_text()
    assert "this is the whole model" in card
    assert "from peft" not in card
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "transformers"
    assert "lora" in front["tags"]
    AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")


def test_a_network_of_our_own_goes_with_what_opens_it(configured: Configure, tmp_path: Path) -> None:
    run = Run.open(train(configured(train=SHORT, model={"name": "lstm", "hidden_size": 8, "embedding_size": 8})))
    push(run, str(tmp_path / "model"))
    assert not verify_manifest(tmp_path / "model")
    opened = Run.open(tmp_path / "model")
    assert opened.predict(["a great film"]) == run.predict(["a great film"])
    for name in ("config.yaml", "environment.json", "training.json"):
        text = (tmp_path / "model" / name).read_text()
        assert str(tmp_path) not in text
        assert str(Path(run.config.data.path).parent) not in text
    assert "machine" not in json.loads((tmp_path / "model" / "environment.json").read_text())


# ---- a hub ---------------------------------------------------------------------------------------


@dataclass
class Hub:
    """What the hub of these tests holds, and what it was asked."""

    endpoint: str = ""
    private: dict[str, bool] = field(default_factory=dict)
    branches: list[str] = field(default_factory=list)
    commits: list[tuple[str, str, dict[str, bytes]]] = field(default_factory=list)
    """Repository, branch, files."""
    tokens: set[str] = field(default_factory=set)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve the few routes that a push takes, on this machine."""
    pytest.importorskip("uvicorn", reason="extra serve")
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    held = Hub()

    def refused(request: Request) -> Response | None:
        held.tokens.add(request.headers.get("authorization", ""))
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse({"error": f"token {TOKEN} may not write"}, 403)
        return None

    async def create(request: Request) -> Response:
        if (no := refused(request)) is not None:
            return no
        given = await request.json()
        name = f"{given.get('organization')}/{given['name']}"
        url = f"{held.endpoint}/{name}"
        if name in held.private:
            return JSONResponse({"error": "You already created this model repo", "url": url}, 409)
        held.private[name] = bool(given.get("private")) or given.get("visibility") == "private"
        return JSONResponse({"url": url, "name": name})

    async def info(request: Request) -> Response:
        name = "{owner}/{name}".format(**request.path_params)
        return JSONResponse({"id": name, "private": held.private[name], "siblings": [], "sha": "0" * 40, "tags": []})

    async def branch(request: Request) -> Response:
        held.branches.append(request.path_params["branch"])
        return Response(status_code=201)

    async def preupload(request: Request) -> Response:
        given = await request.json()
        files = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in given["files"]]
        return JSONResponse({"files": files})

    async def commit(request: Request) -> Response:
        if (no := refused(request)) is not None:
            return no
        lines = [json.loads(line) for line in (await request.body()).splitlines() if line]
        files = {
            one["value"]["path"]: base64.b64decode(one["value"]["content"]) for one in lines if one["key"] == "file"
        }
        name = "{owner}/{name}".format(**request.path_params)
        held.commits.append((name, request.path_params["revision"], files))
        url = f"{held.endpoint}/{name}/commit/{'1' * 40}"
        return JSONResponse({"success": True, "commitOid": "1" * 40, "commitUrl": url, "hookOutput": ""})

    async def checked(request: Request) -> Response:
        return JSONResponse({"errors": [], "warnings": []})

    model = "/api/models/{owner}/{name}"
    routes = [
        Route("/api/repos/create", create, methods=["POST"]),
        Route("/api/validate-yaml", checked, methods=["POST"]),
        Route(f"{model}/preupload/{{revision}}", preupload, methods=["POST"]),
        Route(f"{model}/commit/{{revision}}", commit, methods=["POST"]),
        Route(f"{model}/branch/{{branch}}", branch, methods=["POST"]),
        Route(f"{model}/revision/{{revision}}", info),
        Route(model, info),
    ]
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    held.endpoint = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield held
    server.should_exit = True
    thread.join(10)


def test_a_hub_gets_one_commit_with_the_card(whole: Run, hub: Hub) -> None:
    done = push(whole, "org/reviews", private=True, revision="first", endpoint=hub.endpoint)
    ((name, branch, files),) = hub.commits
    assert (name, branch, hub.branches) == ("org/reviews", "first", ["first"])
    assert hub.private == {"org/reviews": True}
    assert set(files) == set(done.files)
    assert files["model.safetensors"] == (whole.folder / "model.safetensors").read_bytes()
    assert b'folder = "org/reviews"' in files["README.md"]
    assert done.commit == "1" * 40
    assert done.url == f"{hub.endpoint}/org/reviews"
    assert hub.tokens == {f"Bearer {TOKEN}"}
    hub.private["org/open"] = False
    with pytest.raises(InputError, match="everybody may see it"):
        push(whole, "org/open", private=True, endpoint=hub.endpoint)


def test_what_a_hub_refuses_is_said_without_the_token(whole: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    other = "hf_qrstuvwxyzabcdef"
    monkeypatch.setenv("HF_TOKEN", other)
    with pytest.raises(InputError, match="does not let this token write") as caught:
        push(whole, "org/reviews", endpoint=hub.endpoint)
    assert TOKEN not in str(caught.value)
    assert other not in str(caught.value)
    with pytest.raises(RunError, match="could not be reached"):
        push(whole, "org/reviews", endpoint="http://127.0.0.1:9")
    with pytest.raises(InputError, match="no name of a repository"):
        push(whole, "reviews", endpoint=hub.endpoint)


def test_the_command_lists_what_goes(whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = f"file:{tmp_path}/model"
    assert command(["push", str(whole.folder), target, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "model.safetensors" in shown
    assert "not predictions.parquet: what the model says of the rows" in shown
    assert "Nothing was sent." in shown
    assert command(["push", str(whole.folder), target, "--json"]) == 0
    record: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert record["url"] == str(tmp_path / "model")
    assert record["files"]["README.md"] > 0
