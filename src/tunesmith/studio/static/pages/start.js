// Runs and studies, what goes on now, and where to begin.

import { h, poll, renew, replace } from "../elements.js";
import { ago, duration, share, shortName, size } from "../format.js";
import { t, tOr } from "../language.js";
import { chip, commandBox, named, refusal } from "../pieces.js";
import { bar } from "../charts.js";
import { get, post } from "../requests.js";

export async function startPage(place, signal) {
  const lists = h("div", {});
  replace(place,
    h("div", { class: "masthead hero" },
      h("div", {}, h("h1", {}, t("start.title")), h("p", { class: "lead" }, t("start.lead"))),
      h("a", { class: "button primary", href: "#/new" }, t("start.new"))),
    lists);
  let shown = "";
  const refresh = async () => {
    let home;
    try { home = await get("/api/home", signal); } catch (error) {
      if (error.code === "no_session") throw error;
      if (!signal.aborted) replace(lists, refusal(error));
      return true;
    }
    const now = JSON.stringify([home.found.map((one) => ({ ...one, changed: 0 })), home.services.map((one) => [one.id, one.port])]);
    if (now !== shown) {
      shown = now;
      renew(lists, content(home, refresh));
    }
    return true;
  };
  await refresh();
  poll(signal, 3000, async () => { if (shown) await refresh(); });
}

function content(home, refresh) {
  const runs = home.found.filter((one) => one.kind === "run");
  const studies = home.found.filter((one) => one.kind === "study");
  const living = home.found.filter((one) => one.state === "running" || one.state === "starting");
  return [
    home.services.length ? services(home.services, refresh) : null,
    living.length ? h("p", { class: "notice calm", role: "note" }, t("start.living", { n: living.length })) : null,
    home.found.length ? null : welcome(),
    runs.length ? section(t("start.runs"), "run", runs.map(runCard)) : null,
    studies.length ? section(t("start.studies"), "study", studies.map(studyCard)) : null,
    h("section", {}, h("h2", {}, t("start.machine")), h("dl", { class: "facts tiles" },
      fact(named(t("machine.cores"), "cores"), home.machine.cores),
      fact(named(t("machine.memory"), "memory"), size(home.machine.memory)),
      fact(t("machine.disk"), size(home.machine.disk)),
      fact(t("machine.root"), h("bdi", {}, home.root)))),
  ];
}

const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));

function section(title, about, cards) {
  return h("section", {}, h("h2", {}, named(title, about)), h("ul", { class: "cards" }, cards));
}

function runCard(run) {
  const head = run.headline;
  const what = [shortName(run.model), run.method && tOr(`method.${run.method}`, run.method)].filter(Boolean).join(" · ");
  return h("li", { class: "card item" },
    h("div", { class: "item-head" }, h("a", { class: "item-name", href: `#/run/${run.id}` }, h("bdi", {}, run.name)), chip(run.state)),
    h("p", { class: "quiet" }, run.task ? tOr(`task.${run.task}`, run.task) : "", what ? ` · ${what}` : ""),
    head ? h("div", { class: "item-figure" },
      h("span", { class: "value" }, share(head.value, head.is_share)),
      h("span", { class: "note" }, tOr(`metric.${head.name}`, head.title)),
      head.is_share ? bar(head.value) : null) : null,
    h("p", { class: "note" }, ago(run.changed), run.seconds ? ` · ${duration(run.seconds)}` : ""));
}

function studyCard(study) {
  return h("li", { class: "card item" },
    h("div", { class: "item-head" }, h("a", { class: "item-name", href: `#/study/${study.id}` }, h("bdi", {}, study.name)), chip(study.state)),
    h("p", { class: "quiet" }, study.methods.map((one) => tOr(`method.${one}`, one)).join(", ")),
    study.verdict ? h("p", { lang: "en" }, study.verdict) : null,
    h("p", { class: "note" }, ago(study.changed)));
}

function services(found, refresh) {
  return h("section", {}, h("h2", {}, named(t("start.services"), "served")), found.map((one) => h("div", { class: "card" },
    h("div", { class: "item-head" }, h("strong", {}, h("bdi", {}, one.name)),
      h("button", { type: "button", class: "small", onclick: async (event) => { event.target.disabled = true; await post(`/api/jobs/${one.id}/stop`); setTimeout(refresh, 800); } }, t("use.stop"))),
    h("p", { class: "quiet" }, one.port ? `http://127.0.0.1:${one.port}` : t("use.starting")),
    one.curl ? commandBox(one.curl, t("use.curl")) : null)));
}

function welcome() {
  const step = (number, name) => h("li", {}, h("span", { class: "step-number", "aria-hidden": "true" }, number), h("div", {},
    h("strong", {}, t(`welcome.${name}`)), h("p", { class: "quiet" }, t(`welcome.${name}_text`))));
  return h("section", { class: "card welcome" }, h("h2", {}, t("welcome.title")),
    h("ol", { class: "steps-list" }, step("1", "data"), step("2", "train"), step("3", "use")),
    h("p", {}, h("a", { class: "button primary", href: "#/new" }, t("welcome.begin"))));
}
