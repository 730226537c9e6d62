"""The whole path in a real browser: from a file to a model that is served, in both languages, wide and narrow.

TUNESMITH_SCREENSHOTS names a folder for pictures of every page; TUNESMITH_NODE one of node modules with axe-core.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from small_runs import write_reviews
from tunesmith.studio.processes import Process

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (make test-extras)")
pytest.importorskip("uvicorn")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(BROWSER is None, reason="no chromium on PATH"),
]

HOSTILE = '<img src=x onerror="document.title=1"> <script>document.title=2</script>'
SECONDS = 180_000
"""A training may take so many milliseconds on a busy machine."""


class Studio:
    """A studio as a process of its own."""

    def __init__(self, root: Path, port: int = 0) -> None:
        self.root = root
        words = ["studio", "--root", str(root), "--port", str(port), "--no-browser"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tunesmith", *words], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self.process.stdout is not None
        found = re.search(r"(http://127\.0\.0\.1:(\d+)/)\?key=(\S+)", self.process.stdout.readline())
        assert found is not None
        self.home, self.port, self.key = found[1], int(found[2]), found[3]

    def end(self, number: int = signal.SIGTERM) -> None:
        """Stop it, and what was started from it and goes on without it."""
        for path in (self.root / ".studio" / "jobs").glob("*/job.json"):
            job = json.loads(path.read_text())
            Process(job["pid"], job["began"]).stop()
        self.stop(number)

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    found = Studio(tmp_path_factory.mktemp("studio") / "runs")
    yield found
    found.end()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        found = running.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield found
        found.close()


class Visitor:
    """A page of a browser with a language, a size and a theme; what goes wrong in it is kept."""

    def __init__(self, browser: Any, studio: Studio, language: str, *, width: int = 1280, theme: str = "light") -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=theme,
            locale={"en": "en-US", "zh": "zh-CN"}[language],
            bypass_csp=False,
        )
        self.name = f"{language}-{width}-{theme}"
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.wrong: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", self._told)
        self.page.on("request", self._asked)
        self.home = studio.home
        self.page.goto(f"{studio.home}?key={studio.key}")
        self.page.wait_for_selector("h1")
        assert "key=" not in self.page.url

    def _told(self, message: Any) -> None:
        # What a browser says of its own when a server is gone, or refuses: the page tells it in words.
        if message.type == "error" and not re.search(r"status of 4\d\d|ERR_CONNECTION_(REFUSED|RESET)", message.text):
            self.wrong.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.home, "data:")):
            self.wrong.append(f"{request.url} was asked for")

    def picture(self, name: str) -> None:
        """Keep a picture, and require that nothing is wider than the window and axe finds no serious fault."""
        if folder := os.environ.get("TUNESMITH_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"{name}-{self.name}.png", full_page=True)
        wide = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{name} ({self.name}) is {wide} pixels too wide"
        assert not self.wrong
        self.page.evaluate("document.title")
        for fault in self._faults():
            self.wrong.append(f"{name}: {fault}")
        assert not self.wrong

    def _faults(self) -> Iterator[str]:
        script = Path(os.environ.get("TUNESMITH_NODE", "/nowhere")) / "node_modules" / "axe-core" / "axe.min.js"
        if not script.exists():
            return
        # By the debugger, not as a script of the page: the page's own policy stays in force.
        self.page.evaluate(script.read_text(encoding="utf-8"))
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        for one in found["violations"]:
            if one["impact"] in ("serious", "critical"):
                yield f"{one['id']}: {one['help']} {[node['html'][:200] for node in one['nodes'][:3]]}"

    def close(self) -> None:
        self.context.close()


def words(language: str) -> dict[str, str]:
    import tunesmith.studio

    path = Path(tunesmith.studio.__file__).parent / "static" / "languages" / f"{language}.json"
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_from_a_file_to_a_served_model(studio: Studio, browser: Any, tmp_path: Path) -> None:
    t = words("en")
    visitor = Visitor(browser, studio, "en")
    page = visitor.page
    page.get_by_text(t["welcome.title"]).wait_for()
    visitor.picture("welcome")
    data = write_reviews(tmp_path / "reviews.csv", num_rows=800)
    with data.open("a", encoding="utf-8") as file:
        file.write('"<img src=x onerror=""document.title=1""> great",good\n')
    page.get_by_role("link", name=t["start.new"]).first.click()
    page.get_by_text(t["data.samples"]).wait_for()
    visitor.picture("data")
    page.set_input_files("#file", data)

    page.get_by_role("heading", name=t["step.look_title"]).wait_for()
    page.get_by_role("heading", name=t["look.examples"]).wait_for()
    visitor.picture("look")
    assert page.get_by_label(t["role.label"], exact=True).input_value() == "sentiment"
    page.get_by_label(t["role.label"], exact=True).select_option("review")
    page.get_by_role("button", name=t["look.again"]).click()
    page.get_by_text(t["look.by_you"]).first.wait_for()
    page.get_by_label(t["role.label"], exact=True).select_option("sentiment")
    page.get_by_role("button", name=t["look.again"]).click()
    page.get_by_text(t["look.labels"].replace("{n}", "2")).wait_for()
    page.get_by_role("button", name=t["look.on"]).click()

    page.get_by_role("radio", name=re.compile("^lstm")).check()
    page.get_by_role("checkbox", name=re.compile("^LoRA")).uncheck()
    page.get_by_text(t["settings.title"], exact=True).click()
    page.get_by_label(t["settings.epochs"]).fill("2")
    page.get_by_role("button", name=t["plan.make"]).click()
    page.get_by_text(t["plan.recommended"], exact=True).wait_for(timeout=SECONDS)
    visitor.picture("method")
    page.get_by_role("radio", name=re.compile("^Full")).check()
    page.get_by_role("button", name=t["method.on"], exact=True).click()

    page.get_by_label(t["begin.name"], exact=True).fill("First try")
    page.get_by_label(t["begin.name"], exact=True).press("Tab")
    page.get_by_text("--output").wait_for()
    visitor.picture("begin")
    page.get_by_role("button", name=t["begin.begin"], exact=True).click()

    page.get_by_role("heading", name="first-try").wait_for()
    visitor.picture("watch")
    page.get_by_role("link", name=t["run.report"]).wait_for(timeout=SECONDS)
    visitor.picture("results")
    page.get_by_role("link", name=t["run.try"], exact=True).click()
    page.get_by_label(t["role.text"]).fill(f"a great film\n{HOSTILE}")
    page.get_by_role("button", name=t["try.ask"], exact=True).click()
    page.get_by_text("onerror").wait_for()
    assert page.locator(".found img, .found script").count() == 0
    visitor.picture("try")
    page.get_by_role("link", name=t["run.use"], exact=True).click()
    page.get_by_role("button", name=t["use.serve_begin"], exact=True).click()
    page.get_by_text(re.compile("It answers at http")).wait_for(timeout=SECONDS)
    address = re.search(r"http://127\.0\.0\.1:\d+", page.locator(".service").inner_text())
    assert address is not None
    with urllib.request.urlopen(f"{address[0]}/health") as answer:
        assert answer.status == 200
    visitor.picture("use")
    page.get_by_role("button", name=t["use.stop"], exact=True).click()
    page.locator(".service").wait_for(state="detached")
    assert page.title().endswith("tunesmith")
    visitor.close()


@pytest.mark.parametrize(
    ("language", "width", "theme"), [("zh", 1280, "dark"), ("zh", 390, "light"), ("en", 390, "dark")]
)
def test_every_page_in_other_languages_sizes_and_colours(
    studio: Studio, browser: Any, language: str, width: int, theme: str
) -> None:
    t = words(language)
    visitor = Visitor(browser, studio, language, width=width, theme=theme)
    page = visitor.page
    assert page.evaluate("document.documentElement.lang") == language
    page.get_by_role("heading", name=t["start.title"]).wait_for()
    page.get_by_role("heading", name=t["start.machine"]).wait_for()
    visitor.picture("start")
    page.get_by_role("link", name="first-try").click()
    page.locator("table").first.wait_for()
    visitor.picture("results")
    page.get_by_role("link", name=t["run.use"], exact=True).click()
    page.locator("#export").wait_for()
    visitor.picture("use")
    page.get_by_role("link", name=t["top.new"], exact=True).click()
    page.get_by_role("button", name=re.compile("reviews.csv")).first.click()
    page.get_by_role("heading", name=t["look.examples"]).wait_for()
    visitor.picture("look")
    page.get_by_role("button", name=t["look.on"]).click()
    page.get_by_role("heading", name=re.compile("^" + t["plan.title"][:6])).wait_for()
    visitor.picture("method")
    other = {"en": "zh", "zh": "en"}[language]
    page.locator("#language").click()
    page.get_by_role("heading", name=re.compile("^" + words(other)["plan.title"][:6])).wait_for()
    page.reload()
    page.get_by_role("heading", name=re.compile("^" + words(other)["plan.title"][:6])).wait_for()
    visitor.close()


def test_the_keyboard_alone_reaches_and_explains(studio: Studio, browser: Any) -> None:
    t = words("en")
    visitor = Visitor(browser, studio, "en")
    page = visitor.page
    page.get_by_role("heading", name=t["start.machine"]).wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    tip = page.get_by_text(t["term.memory"])
    assert not tip.first.is_visible()
    page.locator(".term").first.focus()
    for _ in range(40):
        if tip.first.is_visible():
            break
        page.keyboard.press("Tab")
    assert tip.first.is_visible()
    visitor.picture("term")
    page.keyboard.press("Escape")
    assert not tip.first.is_visible()
    visitor.close()


def test_a_training_outlives_the_studio_and_is_stopped_and_goes_on(browser: Any, tmp_path: Path) -> None:
    t = words("en")
    first = Studio(tmp_path / "runs")
    visitor = Visitor(browser, first, "en")
    data = write_reviews(tmp_path / "long.csv", num_rows=4000)
    body = {
        "draft": {"data": str(data), "model": "lstm", "settings": ["train.epochs=400", "evaluation.baseline=false"]}
    }
    found = visitor.page.evaluate(
        """async (body) => (await fetch("/api/train", {method: "POST", headers: {"Content-Type": "application/json"},
        body: JSON.stringify(body)})).json()""",
        body,
    )
    visitor.page.goto(f"{first.home}#/run/{found['id']}")
    visitor.page.get_by_text(re.compile(r"Step \d+ of")).wait_for(timeout=SECONDS)
    first.stop(signal.SIGKILL)
    second = Studio(tmp_path / "runs", first.port)
    try:
        before = visitor.page.get_by_text(re.compile(r"Step \d+ of")).inner_text()
        playwright.expect(visitor.page.get_by_text(before)).to_have_count(0, timeout=60_000)
        visitor.picture("live")
        visitor.page.get_by_role("button", name=t["run.stop"], exact=True).click()
        visitor.page.get_by_role("button", name=t["run.resume"], exact=True).wait_for(timeout=SECONDS)
        visitor.picture("stopped")
        visitor.page.get_by_role("button", name=t["run.resume"], exact=True).click()
        visitor.page.get_by_role("button", name=t["run.stop"], exact=True).wait_for(timeout=SECONDS)
        visitor.page.get_by_text(re.compile(r"Step \d+ of")).wait_for(timeout=SECONDS)
        place = tmp_path / "runs" / "long-lstm" / ".lock-holder.json"
        for _ in range(600):
            if place.exists():
                break
            time.sleep(0.2)
        os.kill(json.loads(place.read_text())["pid"], signal.SIGKILL)
        visitor.page.get_by_role("button", name=t["run.resume"], exact=True).wait_for(timeout=SECONDS)
        visitor.page.get_by_text(t["run.is_stopped"]).wait_for()
        visitor.close()
    finally:
        second.end()


def test_a_large_file_is_written_as_it_comes(tmp_path: Path) -> None:
    import http.client

    studio = Studio(tmp_path / "runs")
    before = psutil.Process(studio.process.pid).memory_info().rss
    num_bytes, piece = 200_000_000, b"a joy from start to finish,good\n" * 32_000
    try:
        connection = http.client.HTTPConnection("127.0.0.1", studio.port, timeout=120)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(num_bytes),
            "Cookie": f"tunesmith-studio-{studio.port}={studio.key}",
        }
        connection.putrequest("POST", "/api/uploads?name=large.csv")
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        left = num_bytes
        while left:
            part = piece[:left]
            connection.send(part)
            left -= len(part)
        answer = connection.getresponse()
        status, found = answer.status, json.loads(answer.read())
        connection.close()
        assert status == 201, found
        assert found["size"] == num_bytes
        assert psutil.Process(studio.process.pid).memory_info().rss - before < 50_000_000
    finally:
        studio.stop()


def test_without_scripts_a_page_says_so(studio: Studio, browser: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(studio.home)
    text = page.locator("body").inner_text()
    assert "needs JavaScript" in text
    assert "需要 JavaScript" in text
    context.close()


def test_a_session_that_is_over_says_where_to_go(studio: Studio, browser: Any) -> None:
    visitor = Visitor(browser, studio, "en")
    visitor.context.clear_cookies()
    visitor.page.goto(f"{studio.home}#/new")
    visitor.page.reload()
    visitor.page.get_by_role("heading", name=words("en")["session.title"]).wait_for()
    visitor.close()


@pytest.fixture(scope="module")
def api(studio: Studio) -> Any:
    """Return what asks the studio without a browser."""

    def ask(path: str, content: Any = None) -> Any:
        body = None if content is None else json.dumps(content).encode()
        headers = {"Content-Type": "application/json", "Cookie": f"tunesmith-studio-{studio.port}={studio.key}"}
        with urllib.request.urlopen(urllib.request.Request(f"{studio.home}api/{path}", body, headers)) as answer:
            return json.loads(answer.read())

    return ask


def finished(api: Any, name: str) -> None:
    """Wait until a run or study is over."""
    for _ in range(600):
        if api(f"found/{name}")["state"] not in ("starting", "running"):
            break
        time.sleep(0.5)
    assert api(f"found/{name}")["state"] == "finished", api(f"found/{name}")["job"]


def test_an_export_shows_its_proof(studio: Studio, browser: Any, api: Any, reviews: Path, bert_folder: Path) -> None:
    t = words("en")
    settings = ["train.epochs=1", "evaluation.num_resamples=20", "evaluation.baseline=false"]
    values = {"data": str(reviews), "model": str(bert_folder), "settings": settings, "name": "tiny"}
    found = api("train", {"draft": values})
    finished(api, found["id"])
    visitor = Visitor(browser, studio, "en")
    visitor.page.goto(f"{studio.home}#/run/{found['id']}/use")
    visitor.page.get_by_role("button", name=t["use.export_begin"], exact=True).click()
    visitor.page.get_by_text(t["use.same"]).wait_for(timeout=SECONDS)
    assert (studio.root / "exports").is_dir()
    visitor.picture("export")
    visitor.close()


def test_a_contest_fills_its_table(studio: Studio, browser: Any, api: Any, reviews: Path) -> None:
    t = words("zh")
    settings = ["train.epochs=2", "evaluation.num_resamples=20"]
    values = {"data": str(reviews), "model": "lstm", "methods": ["full", "freeze"], "seeds": 2, "rates": 1}
    found = api("compare", {"draft": {**values, "settings": settings, "name": "contest"}})
    visitor = Visitor(browser, studio, "zh")
    visitor.page.goto(f"{studio.home}#/study/{found['id']}")
    visitor.page.get_by_role("heading", name="contest").wait_for()
    finished(api, found["id"])
    visitor.page.get_by_role("link", name=t["run.report"]).wait_for()
    visitor.picture("contest")
    visitor.page.goto(f"{studio.home}#/")
    visitor.page.get_by_role("heading", name=re.compile(t["start.studies"])).wait_for()
    visitor.picture("home")
    visitor.page.get_by_role("link", name="contest", exact=True).click()
    visitor.page.locator("a.cell-mark").first.click()
    visitor.page.locator("table").first.wait_for()
    with visitor.context.expect_page() as opening:
        visitor.page.get_by_role("link", name=t["run.report"]).click()
    opening.value.wait_for_selector("#theme:not([hidden])")  # by the report's own script
    visitor.close()


def test_chats_show_what_is_trained_and_are_answered(
    studio: Studio, browser: Any, api: Any, llama_folder: Path, tmp_path: Path
) -> None:
    from run.test_contract import TASK_ROWS, write_rows

    t = words("en")
    task, settings, example = TASK_ROWS["chat"]
    data = write_rows(tmp_path, example)
    visitor = Visitor(browser, studio, "en")
    page = visitor.page
    kept = {"data": str(data), "dataName": data.name, "model": str(llama_folder), "task": task}
    page.evaluate("kept => sessionStorage.setItem('tunesmith-draft', JSON.stringify(kept))", kept)
    page.goto(f"{studio.home}#/new/look")
    page.reload()
    page.get_by_role("button", name=t["look.mask_show"], exact=True).click()
    page.locator(".tokens mark").first.wait_for(timeout=SECONDS)
    visitor.picture("mask")
    more = ["train.max_steps=4", "evaluation.num_resamples=20", "evaluation.baseline=false", "evaluation.answers=0"]
    more += [f"task.{name}={value}" for name, value in settings.items()]
    values = {"data": str(data), "model": str(llama_folder), "task": task, "settings": more, "name": "chat"}
    found = api("train", {"draft": values})
    finished(api, found["id"])
    page.goto(f"{studio.home}#/run/{found['id']}/try")
    page.get_by_label(t["try.message"], exact=True).fill("what great 3?")
    page.get_by_role("button", name=t["try.send"], exact=True).click()
    page.get_by_role("button", name=t["try.send"], exact=True).and_(page.locator(":enabled")).wait_for()
    assert page.locator(".turn").count() == 2
    visitor.picture("chat")
    second = visitor.context.new_page()  # another tab of the same visitor
    second.goto(f"{studio.home}#/")
    second.get_by_role("link", name="chat", exact=True).wait_for()
    visitor.close()
