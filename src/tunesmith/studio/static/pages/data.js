// The first step: a file from this computer, one that was sent before, a sample, or a path.

import { h, replace, say } from "../elements.js";
import { draft, keep } from "../draft.js";
import { duration, size } from "../format.js";
import { t, tOr } from "../language.js";
import { go } from "../onwards.js";
import { card, field, named, refusal } from "../pieces.js";
import { progressBar } from "../charts.js";
import { get, remove, upload } from "../requests.js";

const FORMS = [
  ["labels", "text,label\nA joy from start to finish,good\nTwo hours I will not get back,bad"],
  ["chat", '{"messages": [{"role": "user", "content": "Where do whales sleep?"}, {"role": "assistant", "content": "At the surface."}]}'],
  ["entities", "Ada B-PER\nLovelace I-PER\nlived O\nin O\nLondon B-LOC"],
  ["answers", '{"question": "Where did Ada live?", "context": "Ada lived in London.", "answers": ["London"]}'],
  ["pairs", "source,target\nGood morning,Guten Morgen"],
];

function choose(data, name) {
  keep({ data, dataName: name, columns: {}, task: "", foundTask: "", chats: false });
  go("look");
}

export async function dataStep(place, signal) {
  const told = h("div", {});
  const before = h("div", {});
  const samples = h("div", {});
  const { most_bytes: most } = await get("/api/uploads", signal);
  replace(place, dropZone(told, signal, before, most), told, before, samples, pathForm(), forms());
  await showUploads(before, signal);
  replace(samples, h("p", { class: "quiet" }, t("loading.parts")));
  get("/api/parts", signal).then((found) => replace(samples, sampleList(found.data)), (error) => { if (!signal.aborted) replace(samples, refusal(error)); });
}

function dropZone(told, signal, before, most) {
  const input = h("input", { type: "file", id: "file", class: "hidden" });
  const zone = h("label", { class: "drop", for: "file" },
    h("span", { class: "drop-sign", "aria-hidden": "true" }, "↑"),
    h("span", { class: "drop-text" }, h("strong", {}, t("data.choose")), h("span", { class: "quiet" }, t("data.drop"))),
    h("span", { class: "note", id: "limits" }, t("data.limits", { size: size(most) })));
  input.setAttribute("aria-describedby", "limits");
  const send = (file) => { if (file) receive(file, told, signal, before, input); };
  input.addEventListener("change", () => send(input.files[0]));
  for (const name of ["dragover", "dragenter"]) zone.addEventListener(name, (event) => { event.preventDefault(); zone.classList.add("over"); });
  for (const name of ["dragleave", "drop"]) zone.addEventListener(name, () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => { event.preventDefault(); send(event.dataTransfer.files[0]); });
  return h("div", { class: "drop-box" }, input, zone);
}

async function receive(file, told, signal, before, input) {
  const stop = new AbortController();
  signal.addEventListener("abort", () => stop.abort());
  const { element, set } = progressBar(t("data.uploading", { name: file.name }));
  const line = h("p", { class: "note" });
  const button = h("button", { type: "button", class: "small", onclick: () => stop.abort() }, t("data.stop"));
  replace(told, h("div", { class: "card" }, h("p", {}, h("bdi", {}, t("data.uploading", { name: file.name }))), element, line, button));
  const began = performance.now();
  try {
    const found = await upload(file, (sent) => {
      const seconds = (performance.now() - began) / 1000;
      const pace = sent / Math.max(seconds, 0.1);
      set(sent / Math.max(file.size, 1));
      line.textContent = t("data.sent", { sent: size(sent), all: size(file.size), rate: size(pace), left: duration((file.size - sent) / Math.max(pace, 1)) });
    }, stop.signal);
    say(t("data.uploaded", { name: found.name }));
    choose(found.id, found.name);
  } catch (error) {
    if (signal.aborted) return;
    input.value = "";
    replace(told, refusal(error));
    await showUploads(before, signal);
  }
}

async function showUploads(place, signal) {
  const found = (await get("/api/uploads", signal)).uploads;
  if (!found.length) { replace(place); return; }
  const gone = async (one) => { await remove(`/api/uploads/${one.id}`); if (draft.data === one.id) keep({ data: "", dataName: "" }); await showUploads(place, signal); };
  replace(place, card(t("data.before"), h("ul", { class: "choices" }, found.map((one) => h("li", { class: one.id === draft.data ? "chosen" : "" },
    h("button", { type: "button", class: "choice", onclick: () => choose(one.id, one.name) }, h("strong", {}, h("bdi", {}, one.name)), h("span", { class: "note" }, size(one.size))),
    h("button", { type: "button", class: "small", "aria-label": t("data.delete", { name: one.name }), onclick: () => gone(one) }, t("data.delete_short")))))));
}

function sampleList(samples) {
  return card(named(t("data.samples"), "sample"), h("ul", { class: "choices" }, samples.map((one) => h("li", { class: one.name === draft.data ? "chosen" : "" },
    h("button", { type: "button", class: "choice", onclick: () => choose(one.name, one.name) },
      h("strong", {}, one.name), h("span", { class: "note" }, tOr(`sample.${one.name.slice(7)}`, one.line)))))));
}

function pathForm() {
  const input = h("input", { type: "text", value: draft.data.startsWith("sample:") || draft.dataName !== draft.data ? "" : draft.data, autocomplete: "off", spellcheck: "false", placeholder: "/data/reviews.csv" });
  const form = h("form", { class: "inline", onsubmit: (event) => { event.preventDefault(); const value = input.value.trim(); if (value) choose(value, value); } },
    field(t("data.path"), input, { about: "path", hint: t("data.path_hint") }), h("button", { type: "submit" }, t("data.take")));
  return h("section", { class: "card" }, form);
}

function forms() {
  return h("details", { class: "card fold" }, h("summary", {}, t("data.forms")), h("p", { class: "quiet" }, t("data.forms_text")),
    FORMS.map(([name, example]) => h("div", { class: "example" }, h("h4", {}, t(`form.${name}`)), h("pre", { tabindex: "0", "aria-label": t(`form.${name}`) }, example))));
}
