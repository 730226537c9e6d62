// Which page is shown: the part of the address after # says so. Every page is a function that fills the place it is given.

import { h, replace } from "./elements.js";
import { LANGUAGES, language, preferred, speak, t } from "./language.js";
import { refusal } from "./pieces.js";
import { newPage } from "./pages/new.js";
import { runPage } from "./pages/run.js";
import { startPage } from "./pages/start.js";
import { studyPage } from "./pages/study.js";

const PAGES = [
  [/^$/, startPage],
  [/^new(?:\/(data|look|method|begin))?$/, newPage],
  [/^run\/([0-9a-f]{16})(?:\/(results|try|use))?$/, runPage],
  [/^study\/([0-9a-f]{16})$/, studyPage],
];
const THEME = "tunesmith-theme";
const root = document.documentElement;
const main = document.getElementById("main");
let leaving = new AbortController();

const address = () => location.hash.replace(/^#\/?/, "");

async function show({ keepsFocus = false } = {}) {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const found = PAGES.map(([pattern, page]) => [pattern.exec(address()), page]).find(([match]) => match);
  const place = h("div", { class: "page" });
  replace(main, place);
  showTop();
  if (!found) {
    replace(place, h("h1", {}, t("page.unknown")), h("p", {}, h("a", { href: "#/" }, t("page.to_start"))));
    return;
  }
  try {
    await found[1](place, signal, ...found[0].slice(1));
  } catch (error) {
    if (signal.aborted) return;
    if (error.code === "no_session") sessionOver();
    else replace(place, h("h1", {}, t("page.failed")), refusal(error), h("p", {}, h("a", { href: "#/" }, t("page.to_start"))));
  }
  if (signal.aborted) return;
  const heading = main.querySelector("h1");
  document.title = `${heading?.textContent ?? ""} · tunesmith`;
  if (!keepsFocus && heading) { heading.setAttribute("tabindex", "-1"); heading.focus({ preventScroll: true }); scrollTo(0, 0); }
}

function sessionOver() {
  leaving.abort();
  document.title = `${t("session.title")} · tunesmith`;
  replace(main, h("div", { class: "page alone" }, h("h1", {}, t("session.title")), h("p", {}, t("session.text")),
    h("pre", { class: "command" }, h("code", {}, "tunesmith studio"))));
}

function gone(isGone) {
  const place = document.getElementById("gone");
  if (isGone === !place.hidden) return;
  place.hidden = !isGone;
  replace(place, isGone ? t("error.gone").split("\n  → ").map((line) => h("p", {}, line)) : null);
}

function showTop() {
  const here = address();
  const link = (href, text, isHere) => h("a", { href, "aria-current": isHere ? "page" : null }, text);
  const other = Object.keys(LANGUAGES).find((one) => one !== language());
  replace(document.getElementById("top"),
    h("a", { class: "brand", href: "#/" }, "tunesmith ", h("span", { class: "quiet" }, "studio")),
    h("nav", { "aria-label": t("top.pages") }, link("#/", t("top.start"), here === ""), link("#/new", t("top.new"), here.startsWith("new"))),
    h("div", { class: "tools" },
      h("button", { type: "button", id: "language", lang: other, onclick: async () => { await speak(other); show({ keepsFocus: true }); } }, LANGUAGES[other]),
      h("button", { type: "button", id: "theme", onclick: turn }, isDark() ? t("top.light") : t("top.dark"))));
  document.getElementById("skip").textContent = t("top.skip");
  document.getElementById("foot").textContent = t("top.foot");
}

const systemDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);

function turn() {
  root.dataset.theme = isDark() ? "light" : "dark";
  try { localStorage.setItem(THEME, root.dataset.theme); } catch { /* it is chosen again next time */ }
  showTop();
  document.getElementById("theme").focus();
}

try {
  const kept = localStorage.getItem(THEME);
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
} catch { /* storage is not allowed */ }
document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
addEventListener("hashchange", () => show());
addEventListener("session-over", sessionOver);
addEventListener("studio-gone", () => gone(true));
addEventListener("studio-there", () => gone(false));
systemDark.addEventListener("change", showTop);
await speak(preferred());
await show({ keepsFocus: true });
