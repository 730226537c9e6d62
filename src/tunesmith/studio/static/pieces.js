// What all pages are made of: commands to copy, terms with what they mean, problems in the command line's words.

import { add, h, say } from "./elements.js";
import { t } from "./language.js";
import { get } from "./requests.js";

let numbered = 0;
export const newId = (start) => `${start}-${(numbered += 1)}`;

// A small button beside a word; what the word means appears when it is pointed at, focused or pressed.
export function term(key) {
  const id = newId("term");
  const tip = h("span", { class: "term-text", id, role: "tooltip" }, t(`term.${key}`));
  const button = h("button", { type: "button", class: "term", "aria-label": t("term.what"), "aria-describedby": id }, "?");
  const box = h("span", { class: "term-box" }, button, tip);
  const show = () => {
    const at = button.getBoundingClientRect();
    box.classList.add("shown");
    const width = Math.min(300, innerWidth - 24);
    tip.style.width = `${width}px`;
    tip.style.left = `${Math.max(12, Math.min(at.left - 20, innerWidth - width - 12))}px`;
    const above = at.top > tip.offsetHeight + 16;
    tip.style.top = `${above ? at.top - tip.offsetHeight - 8 : at.bottom + 8}px`;
  };
  const hide = () => box.classList.remove("shown");
  button.addEventListener("pointerenter", show);
  button.addEventListener("focus", show);
  button.addEventListener("click", show);
  button.addEventListener("pointerleave", hide);
  button.addEventListener("blur", hide);
  button.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  return box;
}

export const named = (text, key) => [text, " ", term(key)];

// The same in a terminal.
export function commandBox(command, label = t("command.same")) {
  const copied = h("span", { class: "quiet copied", "aria-hidden": "true" });
  const copy = h("button", { type: "button", class: "small" }, t("command.copy"));
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command);
      copied.textContent = t("command.copied");
      say(t("command.copied"));
    } catch {
      getSelection().selectAllChildren(code);
      copied.textContent = t("command.selected");
    }
    setTimeout(() => { copied.textContent = ""; }, 2500);
  });
  const code = h("code", {}, command);
  return h("div", { class: "command" }, h("div", { class: "command-head" }, h("span", { class: "note" }, label), copied, copy),
    h("pre", { tabindex: "0", "aria-label": label }, code));
}

const SIGNS = { error: "✕", warning: "!", note: "i" };

export function problemList(problems, title) {
  const list = h("ul", { class: "told" }, problems.map((one) => h("li", { class: `problem is-${one.severity}` },
    h("span", { class: "sign", "aria-hidden": "true" }, SIGNS[one.severity] ?? "i"),
    h("div", {},
      h("span", { class: "hidden" }, `${t(`severity.${one.severity}`)}: `),
      h("p", { lang: "en" }, one.message, one.rows?.length ? h("span", { class: "quiet" }, ` [${one.rows.slice(0, 5).join(", ")}]`) : null),
      one.fix ? h("p", { class: "fix", lang: "en" }, "→ ", one.fix) : null))));
  return title ? h("section", {}, h("h3", {}, title), list) : list;
}

export function refusal(error) {
  const [message, ...fixes] = String(error.message).split("\n  → ");
  return h("div", { role: "alert" }, problemList([{ severity: "error", message, fix: fixes.join("\n") }]));
}

export function logOf(job) {
  if (!job?.log) return null;
  return h("details", { class: "log" }, h("summary", {}, t("log.title")), h("pre", { tabindex: "0", "aria-label": t("log.title"), lang: "en" }, job.log));
}

export const chip = (state) => h("span", { class: `chip ${state}` }, h("span", { class: "lamp", "aria-hidden": "true" }), t(`state.${state}`));

export function waiting(text) {
  return h("p", { class: "waiting", role: "status" }, h("span", { class: "spinner", "aria-hidden": "true" }), h("span", {}, text));
}

export function field(label, control, { about, hint } = {}) {
  control.id ||= newId("field");
  const hintId = hint ? newId("hint") : null;
  if (hintId) control.setAttribute("aria-describedby", hintId);
  return h("div", { class: "field" },
    h("div", { class: "label-line" }, h("label", { for: control.id }, label), about ? term(about) : null),
    control, hint ? h("p", { class: "note", id: hintId }, hint) : null);
}

export function select(options, chosen, onchange, attributes = {}) {
  return h("select", { ...attributes, onchange: (event) => onchange(event.target.value) },
    options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
}

export function table(head, rows, { label, classes = "plain" } = {}) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label ?? t("table.scroll") },
    h("table", { class: classes }, h("thead", {}, h("tr", {}, head.map((cell) => h("th", { scope: "col" }, cell)))),
      h("tbody", {}, rows)));
}

// Waits for a command that was started; what it has said so far is told while it goes on.
export async function finished(job, signal, tell = () => {}) {
  let found = job;
  while (found.state === "running") {
    await new Promise((resolve) => setTimeout(resolve, 500));
    if (signal.aborted) throw new DOMException("left", "AbortError");
    found = await get(`/api/jobs/${found.id}`, signal);
    tell(found);
  }
  return found;
}

export const lastLine = (log) => (log ?? "").split("\n").map((line) => line.trim()).filter(Boolean).pop() ?? "";

export function card(title, ...children) {
  return add(h("section", { class: "card" }, title ? h("h3", {}, title) : null), children);
}
