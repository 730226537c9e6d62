// A run: watched while it goes on, its figures when it is over, tried out, put to use.

import { h, poll, replace, say } from "../elements.js";
import { compact, count, duration, number, share, shortName, size } from "../format.js";
import { t, tOr } from "../language.js";
import { card, chip, commandBox, logOf, named, problemList, refusal, term } from "../pieces.js";
import { bar, lineChart, progressBar, smoothed, thinned } from "../charts.js";
import { get, post } from "../requests.js";
import { tryPanel } from "./try.js";
import { usePanel } from "./use.js";

const TABS = [["results", resultsPanel], ["try", tryPanel], ["use", usePanel]];
const KEPT_STEPS = 20000;

export async function runPage(place, signal, id, tab = "results") {
  const facts = await get(`/api/found/${id}`, signal);
  const state = h("span", {}, chip(facts.state));
  const buttons = h("div", { class: "buttons" });
  const told = h("div", {});
  replace(place,
    h("div", { class: "masthead" },
      h("p", { class: "eyebrow" }, [tOr(`task.${facts.task}`, facts.task), shortName(facts.model), facts.method && tOr(`method.${facts.method}`, facts.method)].filter(Boolean).join(" · ")),
      h("div", { class: "title-line" }, h("h1", {}, h("bdi", {}, facts.name)), state, buttons)),
    told);
  const body = h("div", {});
  place.append(body);
  const turn = (now) => {
    replace(state, chip(now));
    replace(buttons, orders(id, now, told, facts));
  };
  turn(facts.state);
  if (facts.state === "finished") {
    replace(body, h("nav", { class: "tabs-line", "aria-label": t("run.parts") }, TABS.map(([name]) => h("a", { href: `#/run/${id}/${name}`, "aria-current": name === tab ? "page" : null }, t(`run.${name}`)))));
    const panel = h("div", {});
    body.append(panel);
    await TABS.find(([name]) => name === tab)[1](panel, signal, facts);
  } else watch(body, signal, id, facts, turn);
}

function orders(id, state, told, facts) {
  const order = async (event, name) => {
    event.target.disabled = true;
    try {
      await post(`/api/found/${id}/${name}`);
      say(t(`run.${name}_said`));
      if (name === "resume") dispatchEvent(new HashChangeEvent("hashchange"));
      else replace(told, h("p", { class: "notice calm", role: "status" }, t("run.stop_said")));
    } catch (error) { event.target.disabled = false; replace(told, refusal(error)); }
  };
  if (state === "running" || state === "starting") return [h("button", { type: "button", onclick: (event) => order(event, "stop") }, t("run.stop")), term("stop")];
  if (state === "stopped" || state === "failed") return facts.job || facts.task ? [h("button", { type: "button", class: "primary", onclick: (event) => order(event, "resume") }, t("run.resume")), term("resume")] : [];
  return [];
}

function watch(place, signal, id, facts, turn) {
  const progress = progressBar(t("run.progress"));
  const line = h("p", { class: "note" });
  const tiles = h("dl", { class: "facts tiles" });
  const loss = lineChart(t("run.loss"), "loss", t("run.step"));
  const metric = lineChart(t("run.metrics"), "validation", t("run.step"));
  const rest = h("div", {});
  const tell = meter(tiles);
  replace(place, progress.element, line, tiles, h("div", { class: "figures halves" }, loss.element, metric.element), rest, facts.job ? commandBox(facts.job.command) : null);
  const seen = { steps: [], checks: [], titles: {}, next: 0, total: null, left: null, hasEnded: false };
  let was = facts.state;
  poll(signal, 1000, async () => {
    const now = await get(`/api/found/${id}/progress?after=${seen.next}`, signal);
    if (now.next < seen.next) { seen.steps = []; seen.checks = []; }
    const isNew = now.steps.length || now.checks.length;
    seen.steps = [...seen.steps, ...now.steps].slice(-KEPT_STEPS);
    seen.checks.push(...now.checks);
    seen.titles = { ...now.titles, ...seen.titles };
    seen.next = now.next;
    now.total_steps ??= seen.total;
    now.seconds_left ??= seen.left;
    seen.total = now.total_steps;
    seen.left = now.seconds_left;
    if (now.state !== was) { was = now.state; turn(now.state); if (now.state === "finished") { say(t("run.finished_said")); dispatchEvent(new HashChangeEvent("hashchange")); return false; } }
    showPace(now, seen, progress, line, tell);
    if (isNew) showCurves(seen, now.total_steps, loss, metric);
    const hasEnded = now.state === "failed" || now.state === "stopped";
    if (hasEnded && !seen.hasEnded) {
      const found = await get(`/api/found/${id}`, signal);
      replace(rest, ended(found));
    } else if (!hasEnded) {
      replace(rest);
    }
    seen.hasEnded = hasEnded;
    return true;
  });
}

// The figures of the moment: their places are made once, so that what is pointed at stays where it is.
function meter(place) {
  const shown = new Map();
  return (key, name, value) => {
    if (!shown.has(key)) {
      const figure = h("dd", {});
      shown.set(key, figure);
      place.append(h("div", {}, h("dt", {}, name()), figure));
    }
    shown.get(key).textContent = value;
  };
}

function showPace(now, seen, progress, line, tell) {
  const last = seen.steps[seen.steps.length - 1];
  const isAtWork = now.state === "running" || now.state === "starting";
  progress.set(last && now.total_steps ? last.step / now.total_steps : isAtWork ? null : 0);
  const recent = seen.steps.slice(-20);
  const seconds = recent.reduce((sum, one) => sum + one.seconds, 0);
  const tokens = recent.reduce((sum, one) => sum + one.num_tokens, 0);
  line.textContent = last
    ? [t("run.step_of", { step: count(last.step), all: now.total_steps ? count(now.total_steps) : "?" }), now.seconds_left !== null && isAtWork ? t("run.left", { time: duration(now.seconds_left) }) : ""].filter(Boolean).join(" · ")
    : isAtWork ? `${t("run.preparing")} ${now.doing}` : "";
  const losses = seen.steps.slice(-200).filter((one) => one.loss !== null).map((one) => [one.step, one.loss]);
  tell("loss", () => named(t("run.loss"), "loss"), losses.length ? number(smoothed(losses).pop()[1]) : "–");
  tell("epoch", () => named(t("run.epoch"), "epochs"), last ? last.epoch.toFixed(2) : "–");
  tell("rate", () => named(t("run.rate"), "tokens"), seconds ? `${compact(tokens / seconds)} / s` : "–");
  tell("memory", () => named(t("run.memory"), "memory"), size(now.memory));
  const check = seen.checks[seen.checks.length - 1];
  for (const name of check ? Object.keys(seen.titles).slice(0, 2) : []) tell(name, () => tOr(`metric.${name}`, seen.titles[name]), number(check.metrics[name]));
}

function showCurves(seen, total, loss, metric) {
  // Before a fifth of the way is gone, the steps made so far fill the picture.
  const until = total && (seen.steps[seen.steps.length - 1]?.step ?? 0) > total / 5 ? total : undefined;
  const points = seen.steps.filter((one) => !one.skipped && one.loss !== null).map((one) => [one.step, one.loss]);
  const validation = seen.checks.filter((one) => one.loss !== null && one.loss !== undefined).map((one) => [one.step, one.loss]);
  loss.draw([
    { name: t("run.every_step"), points: thinned(points), faint: true, colour: "var(--series-0)" },
    { name: t("run.smoothed"), points: thinned(smoothed(points)), colour: "var(--series-0)" },
    { name: t("split.validation"), points: validation, colour: "var(--series-1)", dots: true },
  ], until);
  const names = Object.keys(seen.titles).slice(0, 3);
  metric.draw(names.map((name) => ({ name: tOr(`metric.${name}`, seen.titles[name]), points: seen.checks.map((one) => [one.step, one.metrics[name]]), dots: true })), until);
}

function ended(found) {
  const problems = found.job?.problems.filter((one) => one.severity === "error") ?? [];
  return [problems.length ? h("div", { role: "alert" }, problemList(problems, t("run.why"))) : h("p", { class: "notice calm" }, t("run.is_stopped")), logOf(found.job)];
}

async function resultsPanel(place, signal, facts) {
  const head = facts.headline;
  const curves = await get(`/api/found/${facts.id}/progress?after=0`, signal);
  const loss = lineChart(t("run.loss"), "loss", t("run.step"));
  const metric = lineChart(t("run.metrics"), "validation", t("run.step"));
  showCurves(curves, null, loss, metric);
  const training = facts.training;
  const tile = (name, value, note) => (value === "–" ? null : h("div", {}, h("dt", {}, name), h("dd", {}, value, note ? h("span", { class: "note" }, note) : null)));
  replace(place,
    head ? headline(head) : null,
    facts.has_report ? h("p", {}, h("a", { class: "button", href: `/reports/${facts.id}/report.html`, target: "_blank", rel: "noopener" }, t("run.report"))) : null,
    h("dl", { class: "facts tiles" },
      tile(named(t("plan.time"), "time"), duration(facts.seconds)), tile(named(t("plan.peak"), "memory"), size(training.peak_memory_bytes)),
      tile(named(t("plan.trained"), "trained"), compact(training.num_trained_parameters), training.num_parameters ? t("run.of_all", { all: compact(training.num_parameters) }) : null),
      tile(named(t("plan.saved"), "saved"), size(training.saved_bytes)), tile(t("run.steps"), count(training.steps))),
    facts.metrics.length ? card(named(t("run.figures"), "interval"), figures(facts)) : null,
    curves.steps.length ? h("div", { class: "figures halves" }, loss.element, metric.element) : null,
    facts.problems.length ? card(t("look.noticed"), problemList(facts.problems)) : null,
    commandBox(facts.job?.command ?? `tunesmith train --resume --output ${facts.folder}`, facts.job ? undefined : t("run.folder")));
}

function headline(head) {
  const bounds = head.low === null || head.low === undefined ? "" : `${share(head.low, head.is_share)} – ${share(head.high, head.is_share)}`;
  const line = (name, value) => (value === null || value === undefined ? null : h("li", {}, h("span", { class: "bar-name" }, name), head.is_share ? bar(value) : h("span", {}), h("span", { class: "bar-value" }, share(value, head.is_share))));
  return h("div", { class: "card headline" },
    h("div", {}, h("p", { class: "label" }, named(tOr(`metric.${head.name}`, head.title), "metric")), h("p", { class: "figure" }, share(head.value, head.is_share), h("span", { class: "bounds" }, bounds))),
    h("div", {}, h("ul", { class: "bars" }, line(t("run.this"), head.value), head.rival ? line(head.rival, head.rival_value) : null), head.rival ? h("p", { class: "note" }, named(t("run.rival", { name: head.rival }), "baseline")) : null),
    h("p", { class: "note" }, t("run.judged", { rows: count(head.rows), split: tOr(`split.${head.split}`, head.split) })));
}

function figures(facts) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t("run.figures") }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, named(t("run.metric"), "metric")), h("th", { scope: "col", class: "number" }, t("run.this")), h("th", { scope: "col", class: "number" }, named(t("run.bounds"), "interval")), facts.headline?.rival ? h("th", { scope: "col", class: "number" }, facts.headline.rival) : null)),
    h("tbody", {}, facts.metrics.map((one) => h("tr", {}, h("th", { scope: "row" }, tOr(`metric.${one.name}`, one.title)), h("td", { class: "number" }, h("span", { class: "value" }, number(one.value))), h("td", { class: "number bounds" }, one.low === null ? "–" : `${number(one.low)} – ${number(one.high)}`), facts.headline?.rival ? h("td", { class: "number" }, number(one.rival_value)) : null)))));
}
