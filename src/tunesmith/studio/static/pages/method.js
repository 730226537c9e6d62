// The third step: which model, which method, and what each would take on this machine.

import { h, replace } from "../elements.js";
import { asked, commandsOf, draft, keep } from "../draft.js";
import { compact, duration, rate, size } from "../format.js";
import { t, tOr } from "../language.js";
import { go, onwards } from "../onwards.js";
import { card, commandBox, field, finished, lastLine, logOf, named, problemList, refusal, waiting } from "../pieces.js";
import { get, post } from "../requests.js";

export const SETTINGS = [["train.epochs", "epochs"], ["train.learning_rate", "learning_rate"], ["train.batch_size", "batch_size"]];

export async function methodStep(place, signal) {
  replace(place, waiting(t("loading.parts")));
  const [parts, home] = await Promise.all([get("/api/parts", signal), get("/api/home", signal)]);
  if (!draft.model) keep({ model: draft.chats || draft.foundTask === "seq2seq" ? "sample:smollm2-135m-instruct" : "sample:minilm" });
  if (!draft.method) keep({ method: draft.chats ? "lora" : "full" });
  if (!draft.methods.length) keep({ methods: ["full", "lora", "freeze"] });
  const shownPlan = h("div", {}, last.result && last.of === planned() ? planTable(last.result, false) : null);
  const on = onwards("look", t("method.on"), () => go("begin"));
  const shown = h("div", {});
  const tell = async () => {
    try { replace(shown, commandBox((await commandsOf(signal)).plan)); } catch (error) { if (!signal.aborted) replace(shown, refusal(error)); }
  };
  replace(place,
    modelCard(parts, home, tell, signal),
    methodCard(parts, tell),
    settingsCard(tell),
    h("section", { class: "card" }, h("h3", {}, named(t("plan.title"), "plan")), h("p", { class: "quiet" }, t("plan.text")), limits(tell),
      h("p", {}, h("button", { type: "button", id: "plan", onclick: () => plan(shownPlan, signal) }, t("plan.make"))), shownPlan, shown),
    on);
  tell();
}

function modelCard(parts, home, tell, signal) {
  const finishedRuns = home.found.filter((one) => one.kind === "run" && one.state === "finished").slice(0, 8);
  const known = [
    ...parts.models.map((one) => [one.name, tOr(`model.${one.name.replace("sample:", "")}`, one.line), one.kind]),
    ...finishedRuns.map((one) => [`${home.root}/${one.name}`, t("model.of_run", { name: one.name }), "run"]),
  ].filter(([name]) => name !== "vit");
  const other = h("input", { type: "text", value: known.some(([name]) => name === draft.model) ? "" : draft.model, spellcheck: "false", autocomplete: "off", placeholder: "org/name" });
  const radios = known.map(([name, line, kind]) => h("label", { class: "option" },
    h("input", { type: "radio", name: "model", value: name, checked: draft.model === name, onchange: () => { other.value = ""; replace(room); keep({ model: name }); tell(); } }),
    h("span", {}, h("strong", {}, h("bdi", {}, name)), h("span", { class: `tag ${kind}` }, t(`model_kind.${kind}`)), h("span", { class: "note" }, line))));
  const room = h("div", { "aria-live": "polite" });
  other.addEventListener("change", () => {
    for (const one of document.getElementsByName("model")) one.checked = false;
    keep({ model: other.value.trim() });
    tell();
    tellSize(other.value.trim(), room, signal);
  });
  tellSize(other.value, room, signal);
  return h("section", { class: "card" }, h("fieldset", {}, h("legend", {}, named(t("step.method_model"), "model")), h("div", { class: "options" }, radios)),
    field(t("model.other"), other, { about: "hub", hint: t("model.other_hint") }), room);
}

// Names on the hub alone: how large the model is, said before any of it is fetched.
async function tellSize(name, place, signal) {
  place.dataset.name = name;
  replace(place);
  if (!/^[\w.-]+\/[\w.-]+$/.test(name)) return;
  replace(place, waiting(t("model.asking")));
  let found = { known: false };
  try { found = await post("/api/size", { name }, signal); } catch { /* the prediction says it in words */ }
  if (signal.aborted || place.dataset.name !== name) return;
  if (!found.known) return replace(place, h("p", { class: "note" }, t("model.size_unknown")));
  const values = { download: size(found.download), disk: size(found.disk), memory: size(found.memory), free: size(found.free_memory) };
  const refused = [found.fits_disk ? null : t("model.no_disk", values), found.fits_memory ? null : t("model.no_memory", values)].filter(Boolean);
  replace(place, h("p", { class: "note" }, t(found.is_here ? "model.size_here" : "model.size", values)),
    refused.map((message) => h("p", { class: "notice" }, message)));
}

function methodCard(parts, tell) {
  const option = (one) => h("label", { class: "option" },
    h("input", { type: "checkbox", name: "methods", value: one.name, checked: draft.methods.includes(one.name), onchange: (event) => {
      const methods = draft.methods.filter((name) => name !== one.name);
      keep({ methods: event.target.checked ? [...methods, one.name] : methods });
      tell();
    } }),
    h("span", {}, h("strong", {}, tOr(`method.${one.name}`, one.name)), h("code", { class: "tag" }, one.name), h("span", { class: "note" }, tOr(`method_line.${one.name}`, one.line))));
  const usual = parts.methods.filter((one) => parts.usual_methods.includes(one.name));
  const others = parts.methods.filter((one) => !parts.usual_methods.includes(one.name));
  return h("section", { class: "card" }, h("fieldset", {}, h("legend", {}, named(t("method.which"), "method")), h("p", { class: "quiet" }, t("method.which_text")), h("div", { class: "options" }, usual.map(option))),
    h("details", { class: "fold" }, h("summary", {}, t("method.others", { n: others.length })), h("div", { class: "options" }, others.map(option))));
}

function settingsCard(tell) {
  const fields = SETTINGS.map(([key, name]) => {
    const input = h("input", { type: "text", inputmode: "decimal", value: draft.settings[key] ?? "", placeholder: t("settings.by_data"), autocomplete: "off" });
    input.addEventListener("change", () => { keep({ settings: { ...draft.settings, [key]: input.value.trim() } }); tell(); });
    return field(t(`settings.${name}`), input, { about: name });
  });
  const more = h("textarea", { rows: "3", spellcheck: "false", placeholder: "train.weight_decay=0.01", value: draft.more });
  more.addEventListener("change", () => { keep({ more: more.value }); tell(); });
  return h("details", { class: "card fold", open: Object.values(draft.settings).some(Boolean) || draft.more }, h("summary", {}, t("settings.title")), h("p", { class: "quiet" }, t("settings.text")), h("div", { class: "roles" }, fields),
    field(t("settings.more"), more, { hint: t("settings.more_hint") }));
}

function limits(tell) {
  const input = (key, placeholder) => h("input", { type: "text", value: draft[key], placeholder, autocomplete: "off", onchange: (event) => { keep({ [key]: event.target.value.trim() }); tell(); } });
  return h("div", { class: "roles" }, field(t("plan.within"), input("within", "10m")), field(t("plan.memory"), input("memory", "8GB"), { about: "memory" }));
}

// The last prediction is kept for whoever comes back to it.
let last = { of: "", result: null };
const planned = () => JSON.stringify([draft.data, draft.columns, draft.task, draft.model, draft.methods, SETTINGS.map(([key]) => draft.settings[key]), draft.more, draft.within, draft.memory]);

async function plan(place, signal) {
  const button = document.getElementById("plan");
  const status = waiting(t("plan.making"));
  let stopped = null;
  button.disabled = true;
  replace(place, status, h("button", { type: "button", class: "small", onclick: () => stopped && post(`/api/jobs/${stopped}/stop`) }, t("data.stop")));
  try {
    const started = await post("/api/plan", asked(), signal);
    stopped = started.id;
    const job = await finished(started, signal, (now) => { status.lastElementChild.textContent = `${t("plan.making")} ${lastLine(now.log)}`; });
    if (job.state !== "done" || !job.result) replace(place, problemList(job.problems), logOf(job));
    else {
      last = { of: planned(), result: job.result };
      replace(place, planTable(job.result, true));
    }
  } catch (error) {
    if (!signal.aborted) replace(place, refusal(error));
  } finally {
    button.disabled = false;
  }
}

function planTable(found, isNew) {
  const chosen = found.recommended;
  // What would make a method fit is taken over with it, and shown on the next page.
  const take = (name) => {
    const one = found.candidates.find((candidate) => candidate.method === name);
    const others = Object.entries(draft.settings).filter(([key]) => SETTINGS.some(([own]) => own === key));
    const changes = one.fits ? {} : one.would_fit?.changes ?? {};
    keep({ method: name.replace(/\(.*/, ""), settings: { ...Object.fromEntries(others), ...optionsOf(name), ...changes } });
  };
  const rows = found.candidates.map((one) => {
    const isRecommended = one.method === chosen.method;
    const fits = one.fits ? t("plan.fits") : one.would_fit ? t("plan.changed") : t("plan.too_large");
    return h("tr", { class: isRecommended ? "chosen" : null },
      h("th", { scope: "row" }, h("label", { class: "pick-line" }, h("input", { type: "radio", name: "method", value: one.method, disabled: !one.fits && !one.would_fit, checked: isNew ? isRecommended : one.method.replace(/\(.*/, "") === draft.method, onchange: () => take(one.method) }), tOr(`method.${one.method.replace(/\(.*/, "")}`, one.method), h("code", { class: "tag" }, one.method)), isRecommended ? h("span", { class: "tag good" }, t("plan.recommended")) : null),
      h("td", {}, h("span", { class: `fits ${one.fits ? "yes" : one.would_fit ? "maybe" : "no"}` }, fits)),
      h("td", { class: "number" }, duration(one.seconds)), h("td", { class: "number" }, size(one.peak_memory)), h("td", { class: "number" }, size(one.disk)),
      h("td", { class: "number" }, compact(one.trained_parameters)), h("td", { class: "number" }, rate(one.learning_rate)), h("td", {}, one.quality ? tOr(`quality.${one.quality}`, one.quality) : "–"),
      h("td", { lang: "en", class: "prose note" }, one.fits ? (one.quality_reasons ?? []).join("; ") : one.reason));
  });
  if (isNew && chosen.method) take(chosen.method);
  return h("div", {},
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t("plan.title") }, h("table", { class: "plain plan" }, h("caption", { class: "hidden" }, t("plan.title")), h("thead", {}, h("tr", {},
      [named(t("plan.method"), "method"), t("plan.does_fit"), named(t("plan.time"), "time"), named(t("plan.peak"), "memory"), named(t("plan.saved"), "saved"), named(t("plan.trained"), "trained"), named(t("settings.learning_rate"), "learning_rate"), named(t("plan.quality"), "quality"), t("plan.why")].map((cell) => h("th", { scope: "col" }, cell)))),
    h("tbody", {}, rows))),
    chosen.method ? h("p", { class: "verdict better" }, t("plan.take", { method: chosen.method, time: duration(chosen.seconds), memory: size(chosen.peak_memory) }))
      : h("p", { class: "verdict worse", lang: "en" }, chosen.reasons.join(" ")),
    found.notes?.length ? card(t("look.noticed"), h("ul", { class: "plain-list", lang: "en" }, found.notes.map((one) => h("li", {}, one)))) : null);
}

// "lora(rank=16)" is the method lora with an option of its own.
function optionsOf(name) {
  const inside = /\((.*)\)/.exec(name)?.[1] ?? "";
  return Object.fromEntries(inside.split(",").map((one) => one.split("=")).filter(([, value]) => value !== undefined).map(([key, value]) => [`method.${key.trim()}`, value.trim()]));
}
