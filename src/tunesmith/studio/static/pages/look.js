// The second step: the data as tunesmith reads it, and what can be changed of that.

import { h, replace } from "../elements.js";
import { asked, draft, keep } from "../draft.js";
import { count, share } from "../format.js";
import { t, tOr } from "../language.js";
import { go, onwards } from "../onwards.js";
import { card, commandBox, field, finished, lastLine, logOf, named, problemList, refusal, select, table, waiting } from "../pieces.js";
import { bar } from "../charts.js";
import { get, post } from "../requests.js";

// The last look is kept: whoever comes back to it, or turns to another language, does not wait again.
let last = { of: "", job: null };

export async function lookStep(place, signal, { anew = false } = {}) {
  const status = waiting(t("look.reading"));
  replace(place, status);
  let job;
  try {
    const of = JSON.stringify([draft.data, draft.columns, draft.task, draft.more]);
    job = !anew && last.of === of ? last.job : await finished(await post("/api/look", asked(), signal), signal, (now) => {
      status.lastElementChild.textContent = `${t("look.reading")} ${lastLine(now.log)}`;
    });
    last = { of, job };
  } catch (error) {
    if (signal.aborted) return;
    replace(place, refusal(error), onwards("data", t("look.on"), null, { disabled: true }));
    return;
  }
  const parts = await get("/api/parts", signal);
  if (signal.aborted) return;
  const found = job.result;
  const isUsable = job.state === "done" && found?.task;
  if (isUsable) keep({ foundTask: found.task, chats: isChat(found.task) });
  const again = () => lookStep(place, signal, { anew: true });
  const errors = isUsable ? [] : found?.problems?.filter((one) => one.severity === "error") ?? job.problems;
  replace(place,
    isUsable ? null : h("div", { role: "alert" }, problemList(errors.length ? errors : [{ severity: "error", message: lastLine(job.log) || t("error.unknown"), fix: "" }], t("look.unusable"))),
    isUsable ? summary(found) : null,
    roles(found, parts, again),
    isUsable ? labels(found) : null,
    isUsable ? examples(found) : null,
    isUsable && isChat(found.task) ? maskCard(signal, parts) : null,
    isUsable ? noticed(found) : null,
    found?.profiles ? columnsCard(found) : null,
    isUsable ? guesses(found) : null,
    isUsable ? null : logOf(job),
    commandBox(job.command),
    onwards("data", t("look.on"), () => go("method"), { disabled: !isUsable }));
}

const isChat = (task) => ["causal_lm", "preference", "grpo"].includes(task);

function summary(found) {
  const rows = Object.values(found.rows).reduce((sum, one) => sum + one, 0);
  return h("dl", { class: "facts tiles" },
    tile(named(t("look.task"), "task"), tOr(`task.${found.task}`, found.title)),
    tile(t("look.rows"), count(rows)),
    Object.entries(found.rows).map(([split, number]) => tile(named(tOr(`split.${split}`, split), `split_${split}`), count(number), share(number / Math.max(rows, 1)))),
    Object.keys(found.left_out).length ? tile(named(t("look.left_out"), "left_out"), count(Object.values(found.left_out).reduce((sum, one) => sum + one, 0)), Object.entries(found.left_out).map(([why, number]) => `${why}: ${count(number)}`).join(", ")) : null);
}

const tile = (name, value, note) => h("div", {}, h("dt", {}, name), h("dd", {}, value, note ? h("span", { class: "note" }, note) : null));

// What each column is used for: found by looking, changed here, looked at again.
function roles(found, parts, again) {
  const columns = (found?.profiles ?? []).map((one) => one.column);
  const task = draft.task || found?.task || "";
  const known = parts.tasks.find((one) => one.name === task);
  const chosen = found?.columns ?? {};
  const names = [...new Set([...(known?.roles ?? []).map((one) => one.name), ...Object.keys(chosen), ...Object.keys(draft.columns)])];
  const why = Object.fromEntries((found?.roles ?? []).map((one) => [one.role, one.reason]));
  const changed = { ...draft.columns };
  let wanted = draft.task;
  const apply = h("button", { type: "button", onclick: () => { keep({ columns: pruned(changed), task: wanted }); again(); } }, t("look.again"));
  const options = (role) => {
    const given = changed[role] ?? chosen[role] ?? "";
    const offered = [["", t("look.by_itself")], ["none", t("look.none")], ...columns.map((one) => [one, one])];
    if (given && !offered.some(([value]) => value === given)) offered.push([given, given]);
    return [offered, given];
  };
  return card(named(t("look.roles"), "role"),
    field(t("look.task"), select([["", t("look.found_by_looking")], ...parts.tasks.map((one) => [one.name, tOr(`task.${one.name}`, one.title)])], draft.task, (value) => { wanted = value; }), { about: "task", hint: known ? tOr(`task_line.${task}`, known.line) : null }),
    columns.length ? h("div", { class: "roles" }, names.map((role) => {
      const [offered, given] = options(role);
      const control = select(offered, given, (value) => { changed[role] = value; });
      return field(tOr(`role.${role}`, role), control, { hint: draft.columns[role] ? t("look.by_you") : why[role] });
    })) : null,
    h("p", {}, apply));
}

const pruned = (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value));

function labels(found) {
  const counts = Object.entries(found.label_counts ?? {});
  if (!counts.length) return null;
  const most = Math.max(...counts.map(([, number]) => number));
  const all = counts.reduce((sum, [, number]) => sum + number, 0);
  return card(named(t("look.labels", { n: found.labels.length }), "label"), h("ul", { class: "bars" }, counts.slice(0, 20).map(([label, number]) => h("li", {},
    h("span", { class: "bar-name" }, h("bdi", {}, label)), bar(number / most), h("span", { class: "bar-value" }, `${count(number)} · ${share(number / all)}`)))),
  counts.length > 20 ? h("p", { class: "note" }, t("look.more", { n: counts.length - 20 })) : null);
}

function examples(found) {
  const rows = found.examples ?? [];
  if (!rows.length) return null;
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))].filter((name) => name !== "row");
  return card(t("look.examples"), table([t("look.place"), ...names.map((name) => tOr(`role.${name}`, name))], rows.map((row) => h("tr", {},
    h("th", { scope: "row", class: "place" }, row.row), names.map((name) => h("td", {}, h("bdi", { class: "cell" }, row[name] === undefined ? "–" : String(row[name])))))), { label: t("look.examples") }));
}

function maskCard(signal, parts) {
  const place = h("div", {});
  const models = parts.models.filter((one) => one.kind !== "scratch").map((one) => [one.name, one.name]);
  const chosen = draft.model && !models.some(([name]) => name === draft.model) ? [[draft.model, draft.model], ...models] : models;
  let model = draft.model || "sample:smollm2-135m-instruct";
  const show = async () => {
    replace(place, waiting(t("look.reading")));
    keep({ model });
    try {
      const job = await finished(await post("/api/look", asked({ mask: true }), signal), signal);
      if (job.state !== "done") replace(place, problemList(job.problems), logOf(job), commandBox(job.command));
      else replace(place, job.result.mask.map(maskedRow), commandBox(job.command));
    } catch (error) { if (!signal.aborted) replace(place, refusal(error)); }
  };
  return card(named(t("look.mask"), "mask"), h("p", { class: "quiet" }, t("look.mask_text")),
    h("div", { class: "inline" }, field(t("step.method_model"), select(chosen, model, (value) => { model = value; }), { about: "model" }), h("button", { type: "button", onclick: show }, t("look.mask_show"))), place);
}

const maskedRow = (row) => h("div", { class: "masked" }, h("p", { class: "note" }, t("look.mask_row", { row: row.row, tokens: row.tokens, trained: row.trained })),
  h("p", { class: "tokens" }, row.pieces.map(([text, isTrained]) => h(isTrained ? "mark" : "span", {}, text))));

const noticed = (found) => (found.problems.length ? card(t("look.noticed"), problemList(found.problems)) : null);

function columnsCard(found) {
  return h("details", { class: "card fold" }, h("summary", {}, t("look.columns", { n: found.profiles.length })),
    table([t("look.column"), named(t("look.kind"), "kind"), t("look.distinct"), t("look.missing"), t("look.example")], found.profiles.map((one) => h("tr", {},
      h("th", { scope: "row" }, h("bdi", {}, one.column)), h("td", {}, tOr(`kind.${one.kind}`, one.kind)), h("td", { class: "number" }, count(one.distinct)), h("td", { class: "number" }, count(one.missing)),
      h("td", {}, h("bdi", { class: "cell" }, one.examples[0] ?? "")))), { label: t("look.columns", { n: found.profiles.length }) }));
}

function guesses(found) {
  const rows = Object.entries(found.guesses ?? {});
  if (!rows.length) return null;
  return h("details", { class: "card fold" }, h("summary", {}, t("look.guesses")), h("p", { class: "quiet" }, t("look.guesses_text")),
    table([t("look.what"), t("look.chosen"), t("look.explained"), t("look.instead")], rows.map(([name, one]) => h("tr", {},
      h("th", { scope: "row" }, name), h("td", {}, h("bdi", {}, one.chosen)), h("td", { class: "number" }, count(one.explained)),
      h("td", {}, Object.entries(one.alternatives).map(([other, number]) => `${other} (${count(number)})`).join(", ") || "–"))), { label: t("look.guesses") }));
}
