// The last step: what is going to happen, in words and as a command; then it begins.

import { h, replace, say } from "../elements.js";
import { asked, commandsOf, draft, forget, keep } from "../draft.js";
import { shortName } from "../format.js";
import { t, tOr } from "../language.js";
import { onwards } from "../onwards.js";
import { card, commandBox, field, named, refusal, select, waiting } from "../pieces.js";
import { get, post } from "../requests.js";
import { SETTINGS } from "./method.js";

export async function beginStep(place, signal) {
  replace(place, waiting(t("loading.parts")));
  const parts = await get("/api/parts", signal);
  const shown = h("div", {});
  const told = h("div", {});
  const options = h("div", {});
  const tell = async () => {
    try { const found = await commandsOf(signal); replace(shown, commandBox(draft.intent === "train" ? found.train : found.compare)); } catch (error) { if (!signal.aborted) replace(shown, refusal(error)); }
  };
  const begin = async (event) => {
    event.target.disabled = true;
    try {
      const found = await post(`/api/${draft.intent}`, asked(), signal);
      say(t("begin.started"));
      const kind = draft.intent === "train" ? "run" : "study";
      forget();
      location.hash = `#/${kind}/${found.id}`;
    } catch (error) {
      event.target.disabled = false;
      if (!signal.aborted) replace(told, refusal(error));
    }
  };
  const turn = (intent) => { keep({ intent }); replace(options, intent === "train" ? trainOptions(parts, tell) : compareOptions(parts, tell)); tell(); };
  const way = (intent) => h("label", { class: "option" }, h("input", { type: "radio", name: "intent", value: intent, checked: draft.intent === intent, onchange: () => turn(intent) }),
    h("span", {}, h("strong", {}, t(`begin.${intent}`)), h("span", { class: "note" }, t(`begin.${intent}_text`))));
  const name = h("input", { type: "text", value: draft.name, autocomplete: "off", placeholder: t("begin.name_itself"), maxlength: "60", onchange: (event) => { keep({ name: event.target.value.trim() }); tell(); } });
  replace(place,
    h("dl", { class: "facts tiles" }, tile(t("step.data"), draft.dataName || draft.data), tile(named(t("look.task"), "task"), tOr(`task.${draft.task || draft.foundTask}`, draft.task || draft.foundTask)), tile(named(t("step.method_model"), "model"), shortName(draft.model))),
    h("section", { class: "card" }, h("fieldset", {}, h("legend", {}, t("begin.what")), h("div", { class: "options" }, way("train"), way("compare"))), options),
    card(null, field(t("begin.name"), name, { hint: t("begin.name_hint") })),
    shown, told,
    onwards("method", t("begin.begin"), begin));
  turn(draft.intent);
}

const tile = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, h("bdi", {}, value)));

function trainOptions(parts, tell) {
  const offered = parts.methods.map((one) => [one.name, `${tOr(`method.${one.name}`, one.name)} (${one.name})`]);
  const isOwn = (key) => !SETTINGS.some(([usual]) => usual === key);
  const own = Object.entries(draft.settings).filter(([key, value]) => value && isOwn(key));
  const drop = (value) => { keep({ method: value, settings: Object.fromEntries(Object.entries(draft.settings).filter(([key]) => !isOwn(key))) }); tell(); };
  return [field(t("plan.method"), select(offered, draft.method, drop), { about: "method" }),
    own.length ? h("p", { class: "note" }, t("begin.options", { options: own.map(([key, value]) => `${key}=${value}`).join(", ") })) : null];
}

function compareOptions(parts, tell) {
  const input = (key, placeholder = "") => h("input", { type: "text", inputmode: key === "budget" ? "text" : "numeric", value: String(draft[key]), placeholder, autocomplete: "off", onchange: (event) => { keep({ [key]: event.target.value.trim() }); tell(); } });
  return [h("p", {}, t("begin.methods", { methods: draft.methods.map((one) => tOr(`method.${one}`, one)).join(", ") || "–" }), " ", h("a", { href: "#/new/method" }, t("begin.change"))),
    h("div", { class: "roles" }, field(t("begin.seeds"), input("seeds"), { about: "seeds" }), field(t("begin.rates"), input("rates"), { about: "rates" }), field(t("begin.budget"), input("budget", "30m"), { about: "budget" }))];
}
