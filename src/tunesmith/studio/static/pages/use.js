// A finished run, put to use: written for other programs with the proof that it is the same there, and served.

import { h, replace } from "../elements.js";
import { count, number, share, size } from "../format.js";
import { t, tOr } from "../language.js";
import { card, chip, commandBox, field, finished, lastLine, logOf, named, problemList, refusal, select, waiting } from "../pieces.js";
import { get, post } from "../requests.js";

export async function usePanel(place, signal, facts) {
  const parts = await get("/api/parts", signal);
  const served = h("div", {});
  const exported = h("div", {});
  replace(place, serveCard(served, signal, facts), exportCard(exported, signal, facts, parts),
    card(t("use.terminal"), commandBox(facts.route === "chat" ? `tunesmith chat ${facts.folder}` : `tunesmith predict ${facts.folder} --data FILE`, t("use.predict"))));
}

function serveCard(place, signal, facts) {
  const show = (services) => replace(place, services.map((one) => h("div", { class: "service" },
    one.port ? h("p", {}, h("strong", {}, t("use.served", { address: `http://127.0.0.1:${one.port}` }))) : waiting(t("use.starting")),
    one.curl ? commandBox(one.curl, t("use.curl")) : null,
    h("p", {}, h("button", { type: "button", onclick: (event) => stop(event, one) }, t("use.stop"))))));
  const follow = async () => {
    for (let tries = 0; tries < 120 && !signal.aborted; tries += 1) {
      const { services } = await get(`/api/found/${facts.id}`, signal);
      show(services);
      if (services.every((one) => one.port)) return;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  };
  const stop = async (event, one) => {
    event.target.disabled = true;
    await post(`/api/jobs/${one.id}/stop`);
    while (!signal.aborted && (await get(`/api/jobs/${one.id}`, signal)).state === "running") await new Promise((resolve) => setTimeout(resolve, 400));
    show((await get(`/api/found/${facts.id}`, signal)).services);
  };
  const serve = async (event) => {
    event.target.disabled = true;
    replace(place, waiting(t("use.starting")));
    try {
      const begun = await post(`/api/found/${facts.id}/serve`, {}, signal);
      await follow();
      const job = await get(`/api/jobs/${begun.id}`, signal);
      if (job.state === "failed") replace(place, problemList(job.problems), logOf(job));
    } catch (error) { if (!signal.aborted) replace(place, refusal(error)); }
    event.target.disabled = false;
  };
  show(facts.services);
  if (facts.services.some((one) => !one.port)) follow().catch(() => {});
  return h("section", { class: "card" }, h("h3", {}, named(t("use.serve"), "served")), h("p", { class: "quiet" }, t("use.serve_text")), h("p", {}, h("button", { type: "button", class: "primary", onclick: serve }, t("use.serve_begin"))), place,
    commandBox(`tunesmith serve ${facts.folder} --port 8000`));
}

function exportCard(place, signal, facts, parts) {
  let target = parts.targets[0];
  let form = "";
  const forms = h("div", {});
  const showForms = () => replace(forms, field(t("use.form"), select([["", t("use.usual", { form: target.forms[0] })], ...target.forms.map((one) => [one, tOr(`form_of.${one}`, one)])], form, (value) => { form = value; }), { about: "precision" }));
  const targets = select(parts.targets.map((one) => [one.name, `${one.name} (${one.program})`]), target.name, (value) => { target = parts.targets.find((one) => one.name === value); form = ""; showForms(); });
  showForms();
  const shown = h("div", {});
  const showAll = (jobs) => replace(shown, jobs.map(exportOf));
  showAll(facts.exports);
  const begin = async (event) => {
    const button = event.target;
    button.disabled = true;
    const status = waiting(t("use.exporting"));
    replace(place, status);
    try {
      await finished(await post(`/api/found/${facts.id}/export`, { to: target.name, form }, signal), signal, (now) => { status.lastElementChild.textContent = `${t("use.exporting")} ${lastLine(now.log)}`; });
      replace(place);
      showAll((await get(`/api/found/${facts.id}`, signal)).exports);
    } catch (error) { if (!signal.aborted) replace(place, refusal(error)); }
    button.disabled = false;
  };
  return h("section", { class: "card" }, h("h3", {}, named(t("use.export"), "export")), h("p", { class: "quiet" }, t("use.export_text")),
    h("div", { class: "roles" }, field(t("use.target"), targets, { about: "target" }), forms), h("p", {}, h("button", { type: "button", class: "primary", id: "export", onclick: begin }, t("use.export_begin"))), place, shown);
}

function exportOf(job) {
  const found = job.result;
  const row = (name, ...cells) => h("tr", {}, h("th", { scope: "row" }, name), cells.map((cell) => h("td", { class: "number" }, cell)));
  return h("div", { class: "exported" }, h("p", {}, chip(job.state), " ", h("strong", {}, found ? `${found.target}, ${found.form}` : "")),
    job.state === "failed" ? [problemList(job.problems), logOf(job)] : null,
    found?.target ? h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t("use.equal", { n: count(found.rows) }) }, h("table", { class: "equal" }, h("caption", { class: "note" }, named(t("use.equal", { n: count(found.rows) }), "equal")),
      h("thead", {}, h("tr", {}, h("td", {}), [t("run.this"), t("use.exported"), t("use.difference")].map((name) => h("th", { scope: "col", class: "number" }, name)))),
      h("tbody", {},
        row(tOr(`metric.${found.metric}`, found.metric), number(found.metric_before), number(found.metric_after), `${number(found.metric_change.value)} [${number(found.metric_change.low)}, ${number(found.metric_change.high)}]`),
        row(t("use.scores"), "", "", found.max_difference.toExponential(1)),
        row(t("use.same"), "", "", share(found.same_answers)),
        row(t("use.size"), size(found.size_before), size(found.size), "")))) : null,
    commandBox(job.command));
}
