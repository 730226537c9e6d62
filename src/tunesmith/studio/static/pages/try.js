// A finished run, asked: labels with scores, entities marked, answers in their context, conversations, likeness.

import { h, replace, say } from "../elements.js";
import { number, share } from "../format.js";
import { t, tOr } from "../language.js";
import { bar } from "../charts.js";
import { imageField, picture } from "../images.js";
import { card, field, named, refusal, waiting } from "../pieces.js";
import { events, post } from "../requests.js";

const KINDS = { classify: texts, tag: texts, translate: texts, answer: answering, embed: likeness, chat: chatting, predict: rows };
const MOST_SHOWN = 8;

export async function tryPanel(place, signal, facts) {
  replace(place, waiting(t("try.opening")));
  try {
    const opened = await post(`/api/found/${facts.id}/open`, {}, signal);
    const isOfImages = opened.sees && opened.route === "classify";
    if (!signal.aborted) (isOfImages ? pictures : KINDS[opened.route])(place, signal, facts, opened);
  } catch (error) {
    if (!signal.aborted) replace(place, refusal(error));
  }
}

// A form that asks, and a place for what is answered.
function asking(place, controls, ask, { about = "try", button = t("try.ask") } = {}) {
  const found = h("div", { class: "found", "aria-live": "polite" });
  const send = h("button", { type: "submit", class: "primary" }, button);
  const form = h("form", { onsubmit: async (event) => {
    event.preventDefault();
    send.disabled = true;
    replace(found, waiting(t("try.thinking")));
    try { replace(found, await ask()); } catch (error) { replace(found, refusal(error)); } finally { send.disabled = false; }
  } }, controls, h("p", {}, send));
  replace(place, card(named(t("try.title"), about), form), found);
}

const area = (value, lines = 4) => h("textarea", { rows: String(lines), value });

function texts(place, signal, facts, opened) {
  const isPair = opened.inputs.length === 2;
  const controls = opened.inputs.map((name, index) => [area(""), opened.columns[index] ?? name]);
  asking(place, controls.map(([control, name], index) => field(isPair || opened.columns.length ? tOr(`role.${opened.inputs[index]}`, name) : t("try.texts"), control, { hint: isPair ? null : t("try.texts_hint") })), async () => {
    const [first, second] = controls.map(([control]) => lines(control.value, isPair));
    const body = isPair ? { texts: first, text_pairs: second } : { texts: first };
    const { results } = await post(`/api/found/${facts.id}/try/${opened.route}`, body, signal);
    return results.map((one, index) => result(opened.route, first[index], one));
  });
}

function pictures(place, signal, facts, opened) {
  const images = imageField(t("try.images"), t("try.images_hint"));
  const question = opened.inputs.length === 2 ? h("input", { type: "text", autocomplete: "off" }) : null;
  asking(place, [images.place, question ? field(tOr("role.question", "question"), question) : null], async () => {
    const given = await images.read();
    if (!given.length) throw new Error(t("try.no_image"));
    const body = { images: given.map((one) => one.address), ...(question ? { texts: given.map(() => question.value) } : {}) };
    const { results } = await post(`/api/found/${facts.id}/try/classify`, body, signal);
    return results.map((one, index) => h("div", { class: "card" }, h("p", { class: "images" }, picture(given[index])),
      h("p", { class: "quiet" }, h("bdi", {}, given[index].name)), labelled(one)));
  });
}

// Every line is a text, unless two texts belong together: these may have lines of their own.
const lines = (value, isWhole) => (isWhole ? [value] : value.split("\n").map((line) => line.trim()).filter(Boolean));

function result(route, text, one) {
  if (route === "tag") return h("div", { class: "card" }, marked(text, one.entities ?? []), legend(one.entities ?? []));
  if (route === "translate") return h("div", { class: "card" }, h("p", { class: "quiet" }, h("bdi", {}, text)), h("p", { class: "answer" }, h("bdi", {}, one.text ?? one.answer ?? String(Object.values(one)[0] ?? ""))));
  return h("div", { class: "card" }, h("p", { class: "quiet" }, h("bdi", {}, text)), labelled(one));
}

function labelled(one) {
  if (one.value !== undefined) return h("p", { class: "answer figure-small" }, Array.isArray(one.value) ? one.value.map((value) => number(value)).join(", ") : number(one.value));
  const scores = Object.entries(one.probabilities ?? one.scores ?? {}).sort(([, a], [, b]) => b - a);
  const chosen = Array.isArray(one.labels ?? one.label) ? (one.labels ?? one.label).join(", ") || t("try.no_label") : String(one.label);
  const shown = scores.length ? scores : typeof one.score === "number" ? [[chosen, one.score]] : [];
  return [h("p", { class: "answer" }, h("strong", {}, h("bdi", {}, chosen))),
    h("ul", { class: "bars" }, shown.slice(0, MOST_SHOWN).map(([label, score]) => h("li", {}, h("span", { class: "bar-name" }, h("bdi", {}, label)), bar(score), h("span", { class: "bar-value" }, share(score))))),
    scores.length > MOST_SHOWN ? h("p", { class: "note" }, t("look.more", { n: scores.length - MOST_SHOWN })) : null];
}

// Places are counted in characters, as Python counts them; a browser counts some of them twice.
function marked(text, spans) {
  const characters = Array.from(text);
  const found = h("p", { class: "marked" });
  let at = 0;
  for (const span of [...spans].sort((a, b) => a.start - b.start)) {
    if (span.start < at) continue;
    found.append(characters.slice(at, span.start).join(""));
    found.append(h("mark", { class: `kind-${kindOf(span.label, spans)}` }, characters.slice(span.start, span.end).join(""), span.label ? h("span", { class: "kind" }, span.label) : null));
    at = span.end;
  }
  found.append(characters.slice(at).join(""));
  return found;
}

const kindOf = (label, spans) => [...new Set(spans.map((one) => one.label))].indexOf(label) % 6;

function legend(spans) {
  if (!spans.length) return h("p", { class: "note" }, t("try.no_entities"));
  return h("p", { class: "note" }, spans.map((one) => `${one.label} ${one.score === undefined ? "" : share(one.score)}`.trim()).join(" · "));
}

function answering(place, signal, facts, opened) {
  const question = h("input", { type: "text", autocomplete: "off" });
  const context = area("", 6);
  asking(place, [field(tOr("role.question", "question"), question), field(tOr("role.context", "context"), context)], async () => {
    const { results } = await post(`/api/found/${facts.id}/try/answer`, { questions: [question.value], contexts: [context.value] }, signal);
    const [one] = results;
    const others = (one.n_best ?? []).filter((other) => other.start !== null && other.start !== undefined).slice(1, 4);
    const has = one.start !== null && one.start !== undefined && one.answer;
    return h("div", { class: "card" },
      h("p", { class: "answer" }, h("strong", {}, h("bdi", {}, has ? one.answer : t("try.no_answer"))), typeof one.score === "number" ? h("span", { class: "note" }, ` ${share(one.score)}`) : null),
      marked(context.value, has ? [{ start: one.start, end: one.end, label: "" }] : []),
      others.length ? h("p", { class: "note" }, t("try.also"), " ", others.map((other) => `“${other.answer}” ${share(other.score)}`).join(", ")) : null);
  });
}

function likeness(place, signal, facts) {
  const control = area("", 6);
  asking(place, [field(t("try.texts"), control, { hint: t("try.likeness_hint"), about: "likeness" })], async () => {
    const given = lines(control.value, false);
    const { data } = await post(`/api/found/${facts.id}/try/embed`, { input: given }, signal);
    const like = (a, b) => a.embedding.reduce((sum, value, index) => sum + value * b.embedding[index], 0);
    return card(named(t("try.likeness"), "likeness"), h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t("try.likeness") }, h("table", { class: "likeness" },
      h("thead", {}, h("tr", {}, h("td", {}), data.map((one, index) => h("th", { scope: "col", class: "number" }, String(index + 1))))),
      h("tbody", {}, data.map((one, row) => h("tr", {}, h("th", { scope: "row" }, `${row + 1} `, h("bdi", { class: "quiet" }, given[row])), data.map((other, column) => {
        const value = like(one, other);
        const cell = h("td", { class: "number" }, number(value, 2));
        if (row !== column) cell.style.setProperty("background", `rgb(var(--hit) / ${Math.max(0, Math.min(0.4, 0.4 * value)).toFixed(2)})`);
        return cell;
      })))))));
  });
}

function chatting(place, signal, facts, opened) {
  const messages = [];
  const images = opened.sees ? imageField(t("try.images"), t("try.images_chat_hint")) : null;
  const log = h("div", { class: "chat", role: "log", "aria-label": t("try.chat"), tabindex: "0" });
  const input = h("textarea", { rows: "2", id: "message", placeholder: t("try.chat_hint") });
  const heat = h("input", { type: "text", inputmode: "decimal", value: "0" });
  const send = h("button", { type: "submit", class: "primary" }, t("try.send"));
  const stop = h("button", { type: "button", disabled: true }, t("data.stop"));
  let ending = null;
  stop.addEventListener("click", () => ending?.abort());
  const turn = (role, text, shown = []) => {
    const words = h("p", {}, text);
    const whole = h("div", { class: `turn ${role}` }, h("span", { class: "note" }, t(`try.${role}`)), shown.length ? h("div", { class: "images" }, shown.map(picture)) : null, words);
    log.append(whole);
    log.scrollTop = log.scrollHeight;
    return { words, whole };
  };
  const ask = async (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (!text || send.disabled) return;
    send.disabled = true;
    const shown = images ? await images.read() : [];
    const parts = shown.map((one) => ({ type: "image_url", image_url: { url: one.address } }));
    messages.push({ role: "user", content: shown.length ? [...parts, { type: "text", text }] : text });
    const asked = turn("user", text, shown);
    input.value = "";
    stop.disabled = false;
    ending = new AbortController();
    signal.addEventListener("abort", () => ending.abort());
    const { words, whole } = turn("assistant", "");
    words.classList.add("writing");
    let answer = "";
    let refused = null;
    try {
      for await (const one of events(`/api/found/${facts.id}/try/chat`, { messages, stream: true, temperature: Number(heat.value) || 0 }, ending.signal)) {
        if (one.error) throw new Error(one.error.message);
        answer += one.choices?.[0]?.delta?.content ?? "";
        words.textContent = answer;
        log.scrollTop = log.scrollHeight;
      }
    } catch (error) {
      if (error.name !== "AbortError") refused = error;
    }
    words.classList.remove("writing");
    if (refused && !answer) {
      // What was refused is no part of the conversation: it is given back, to be changed and sent again.
      messages.pop();
      asked.whole.remove();
      whole.remove();
      input.value = text;
    } else {
      messages.push({ role: "assistant", content: answer });
      images?.clear();
      say(answer);
    }
    if (refused) log.append(refusal(refused));
    send.disabled = false;
    stop.disabled = true;
    input.focus();
  };
  input.addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.shiftKey && !event.isComposing) ask(event); });
  replace(place, card(named(t("try.chat"), "try"), log, h("form", { onsubmit: ask }, images?.place, field(t("try.message"), input),
    h("div", { class: "inline" }, field(t("try.temperature"), heat, { about: "temperature" }), send, stop,
      h("button", { type: "button", onclick: () => { messages.length = 0; replace(log); images?.clear(); input.focus(); } }, t("try.anew"))))));
}

function rows(place, signal, facts, opened) {
  const example = Object.fromEntries((opened.columns.length ? opened.columns : opened.inputs).map((name) => [name, "…"]));
  const control = area(JSON.stringify(example, null, 1), 8);
  asking(place, [field(t("try.row"), control, { hint: t("try.row_hint") })], async () => {
    let row;
    try { row = JSON.parse(control.value); } catch (error) { throw new Error(t("try.no_json", { why: error.message })); }
    const { results } = await post(`/api/found/${facts.id}/try/predict`, { rows: Array.isArray(row) ? row : [row] }, signal);
    return results.map((one) => h("pre", { class: "card" }, JSON.stringify(one, null, 1)));
  });
}
