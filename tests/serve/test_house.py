"""Runs that share weights, and runs that are added or replaced while they are served."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from serve.running import Server, messages, trained
from tunesmith.engine.decoding.ready import _found
from tunesmith.models.sharing import memory_beside
from tunesmith.models.wrapping import inner
from tunesmith.run import Run, Writing
from tunesmith.serve.house import House
from tunesmith.serve.settings import ServeSettings
from tunesmith.serve.watching import Watch

if TYPE_CHECKING:
    import torch

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory, llama_folder: Path) -> list[Path]:
    """Two adapters of one base, of other seeds and rates."""
    place = tmp_path_factory.mktemp("adapters")
    return [
        trained(
            f"lora{i}",
            "chat",
            place,
            llama_folder,
            method={"name": "lora", "rank": 2},
            train={"learning_rate": 0.2 * i},
        )
        for i in (1, 2)
    ]


def test_adapters_share_their_base_and_answer_as_alone(adapters: list[Path]) -> None:
    expected = ["".join(Run.open(one).chat(messages("what great 3?"), Writing(12))) for one in adapters]
    assert expected[0] != expected[1]
    server = Server(adapters, ServeSettings())
    try:
        for _ in range(2):
            for folder, text in zip(adapters, expected, strict=True):
                given = {"model": folder.name, "messages": messages("what great 3?"), "max_tokens": 12}
                _, found = server.ask("/v1/chat/completions", given)
                assert found["choices"][0]["message"]["content"].strip() == text.strip()
        first, second = (one.run.network.model for one in server.house.hosted.values())
        size = sum(parameter.nbytes for parameter in inner(second).parameters())
        assert memory_beside([second], first) < size / 2, "of the second there is what its adapter trained"
        bases = [dict(inner(model).named_parameters()) for model in (first, second)]
        names = [name for name in bases[0] if name.endswith(("base_layer.weight", "layernorm.weight"))]
        assert len(names) > 8
        assert all(bases[0][name].data_ptr() == bases[1][name].data_ptr() for name in names)
        prepared = [[linear.weight for linear in linears(model)] for model in (first, second)]
        assert all(one is other for one, other in zip(*prepared, strict=True)), "what is packed is packed once"
    finally:
        server.stop()


def linears(model: torch.nn.Module) -> list[object]:
    """Return what stands in for the linear layers of a model that writes."""
    found = []
    for _, forward in _found[model].stand_ins:
        layer = forward.__self__  # type: ignore[attr-defined]
        found += [layer.linear] if hasattr(layer, "linear") else [layer.inputs, layer.outputs, layer.wide, layer.narrow]
    return found


@pytest.mark.slow
def test_a_run_that_is_replaced_is_taken_up_and_requests_end_with_the_old_one(
    adapters: list[Path], tmp_path: Path
) -> None:
    served = tmp_path / "runs"
    served.mkdir()
    shutil.copytree(adapters[0], served / "chat")
    texts = ["".join(Run.open(one).chat(messages("what great 3?"), Writing(100))) for one in adapters]
    server = Server([served], ServeSettings())
    told: list[str] = []
    given = {"model": "chat", "messages": messages("what great 3?"), "max_tokens": 100}

    def ask() -> str:
        status, found = server.ask("/v1/chat/completions", given)
        assert status == 200, found
        return str(found["choices"][0]["message"]["content"]).strip()

    try:
        old = server.house.hosted["chat"]
        assert ask() == texts[0].strip()
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.extend(ask() for _ in range(3)))
        asking.start()
        while not old.num_waiting:
            time.sleep(0.001)
        shutil.rmtree(served / "chat")
        shutil.copytree(adapters[1], served / "chat")
        shutil.copytree(adapters[0], served / "second")
        (served / "broken").mkdir()
        for name in ("config.yaml", "manifest.json"):
            shutil.copy(adapters[0] / name, served / "broken")
        server.house.look_again(told.append)
        asking.join()
        assert answers[0] == texts[0].strip(), "it was begun with the old one"
        assert set(answers) <= {text.strip() for text in texts}
        assert ask() == texts[1].strip()
        assert not old._thread.is_alive(), "the old one has ended"
        assert list(server.house.hosted) == ["chat", "second"]
        assert [line.split(":")[0] for line in told] == [
            "broken is not served",
            "chat was replaced.",
            "second was added.",
        ]
        server.house.look_again(told.append)
        assert len(told) == 3, "nothing has changed since"
    finally:
        server.stop()


def test_a_watch_looks_by_itself(adapters: list[Path], tmp_path: Path) -> None:
    served = tmp_path / "runs"
    shutil.copytree(adapters[0], served / "one")
    house = House([served], ServeSettings())
    told = threading.Event()
    with Watch(house, 0.05, lambda _: told.set()):
        shutil.copytree(adapters[1], tmp_path / "two")
        (tmp_path / "two").rename(served / "two")
        assert told.wait(20)
        assert list(house.hosted) == ["one", "two"]
    house.close()
