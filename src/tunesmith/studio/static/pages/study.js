// A study: the table of a contest, filled while it goes on; what was found, and the report.

import { h, poll, renew, replace, say } from "../elements.js";
import { compact, duration, rate, share, size } from "../format.js";
import { t, tOr } from "../language.js";
import { axisOf, whisker } from "../charts.js";
import { chip, commandBox, lastLine, logOf, named, problemList, refusal, term } from "../pieces.js";
import { get, post } from "../requests.js";

export async function studyPage(place, signal, id) {
  const head = h("div", { class: "masthead" });
  const told = h("div", {});
  const body = h("div", {});
  const doing = h("p", { class: "note", lang: "en" });
  replace(place, head, told, doing, body);
  let shown = "";
  const refresh = async () => {
    const found = await get(`/api/found/${id}`, signal);
    const now = JSON.stringify({ ...found, seconds: 0, changed: 0, job: found.job?.state });
    if (found.state !== "finished") doing.textContent = lastLine(found.job?.log);
    if (now === shown) return true;
    shown = now;
    renew(head, h("p", { class: "eyebrow" }, named(t("study.kind"), "contest")), h("div", { class: "title-line" }, h("h1", {}, h("bdi", {}, found.name)), chip(found.state), orders(found, told)));
    renew(body, content(found));
    if (found.state === "finished") replace(doing);
    return true;
  };
  await refresh();
  poll(signal, 2000, refresh);
}

function orders(found, told) {
  const order = async (event, name) => {
    event.target.disabled = true;
    try { await post(`/api/found/${found.id}/${name}`); say(t(`run.${name}_said`)); replace(told, h("p", { class: "notice calm", role: "status" }, t(`run.${name}_said`))); } catch (error) { event.target.disabled = false; replace(told, refusal(error)); }
  };
  if (found.state === "running" || found.state === "starting") return h("div", { class: "buttons" }, h("button", { type: "button", onclick: (event) => order(event, "stop") }, t("run.stop")), term("stop"));
  if (found.state !== "finished" && found.job) return h("div", { class: "buttons" }, h("button", { type: "button", class: "primary", onclick: (event) => order(event, "resume") }, t("run.resume")), term("resume"));
  return null;
}

function content(found) {
  const isOver = found.state === "finished";
  const errors = found.job && found.state !== "finished" ? found.job.problems.filter((one) => one.severity === "error") : [];
  return [
    errors.length ? h("div", { role: "alert" }, problemList(errors, t("run.why"))) : null,
    isOver && found.verdict ? h("div", { class: "card conclusion" }, h("p", { class: "sentence", lang: "en" }, found.verdict)) : null,
    found.has_report ? h("p", {}, h("a", { class: "button", href: `/reports/${found.id}/report.html`, target: "_blank", rel: "noopener" }, t("run.report"))) : null,
    found.lines.length ? contest(found) : h("p", { class: "empty" }, t("study.waiting")),
    found.notes.length ? h("section", { class: "card" }, h("h3", {}, t("look.noticed")), h("ul", { class: "plain-list", lang: "en" }, found.notes.map((one) => h("li", {}, one)))) : null,
    isOver ? null : logOf(found.job),
    found.job ? commandBox(found.job.command) : null,
  ];
}

function contest(found) {
  const axis = axisOf(found.lines);
  const sign = found.higher_is_better ? -1 : 1;
  const lines = [...found.lines].sort((a, b) => (a.mean === null) - (b.mean === null) || sign * (a.mean - b.mean));
  const head = [named(t("plan.method"), "method"), found.title ? named(tOr(`metric.${found.metric}`, found.title), "metric") : t("study.quality"), h("span", { class: "hidden" }, t("run.bounds")), named(t("study.verdict"), "verdict"), named(t("study.runs"), "seeds"), named(t("settings.learning_rate"), "learning_rate"), named(t("plan.time"), "time"), named(t("plan.peak"), "memory"), named(t("plan.trained"), "trained")];
  return h("section", { class: "card" }, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t("study.table") }, h("table", { class: "contest" },
    h("thead", {}, h("tr", {}, head.map((cell) => h("th", { scope: "col" }, cell)))),
    h("tbody", {}, lines.map((one, index) => h("tr", {},
      h("th", { scope: "row" }, tOr(`method.${one.name}`, one.name), one.name === found.reference ? h("span", { class: "tag" }, t("study.reference")) : null),
      h("td", { class: "number" }, one.mean === null ? h("span", { class: "quiet" }, one.reason || tOr(`state.${one.state}`, one.state)) : [h("span", { class: "value" }, share(one.mean, found.is_share)), one.low === null ? null : h("span", { class: "bounds" }, ` ${share(one.low, found.is_share)} – ${share(one.high, found.is_share)}`)]),
      h("td", { class: "strip" }, one.mean === null ? null : whisker(one.mean, one.low, one.high, axis, index)),
      h("td", {}, one.verdict ? h("span", { class: `verdict-word ${one.verdict}` }, tOr(`verdict.${one.verdict}`, one.verdict)) : "–"),
      h("td", {}, h("span", { class: "cells" }, one.runs.map((run) => (run.id && run.state === "done" ? h("a", { class: "cell-mark done", href: `#/run/${run.id}`, "aria-label": t("study.run", { seed: run.seed, value: share(run.value, found.is_share) }) }, "●") : h("span", { class: `cell-mark ${run.state}`, role: "img", "aria-label": `${t("study.seed", { seed: run.seed })}: ${tOr(`state.${run.state}`, run.state)}` }, run.state === "running" ? "◐" : run.state === "failed" ? "✕" : "○"))))),
      h("td", { class: "number" }, rate(one.learning_rate)), h("td", { class: "number" }, duration(one.seconds)), h("td", { class: "number" }, size(one.peak_memory)), h("td", { class: "number" }, compact(one.trained_parameters))))))));
}
