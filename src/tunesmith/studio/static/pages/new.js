// A new training, step by step: data, a look at it, model and method, the beginning.

import { h, replace } from "../elements.js";
import { t } from "../language.js";
import { draft, forget } from "../draft.js";
import { beginStep } from "./begin.js";
import { dataStep } from "./data.js";
import { lookStep } from "./look.js";
import { methodStep } from "./method.js";

const STEPS = [["data", dataStep], ["look", lookStep], ["method", methodStep], ["begin", beginStep]];

const isOpen = (name) => name === "data" || (draft.data && (name !== "begin" || draft.model));

export async function newPage(place, signal, wanted) {
  const name = wanted && isOpen(wanted) ? wanted : "data";
  const index = STEPS.findIndex(([one]) => one === name);
  const step = h("div", { class: "step" });
  replace(place,
    h("ol", { class: "stepper", "aria-label": t("new.steps") }, STEPS.map(([one], number) => h("li", { class: number < index ? "done" : number === index ? "here" : "" },
      isOpen(one) ? h("a", { href: `#/new/${one}`, "aria-current": number === index ? "step" : null }, mark(number, index), t(`step.${one}`))
        : h("span", { class: "quiet" }, mark(number, index), t(`step.${one}`))))),
    h("div", { class: "masthead" }, h("h1", {}, t(`step.${name}_title`)), h("p", { class: "lead" }, t(`step.${name}_lead`))),
    step);
  await STEPS[index][1](step, signal);
  if (draft.data && index === 0) {
    place.append(h("p", {}, h("button", { type: "button", class: "small", onclick: () => { forget(); location.hash = "#/new/data"; dispatchEvent(new HashChangeEvent("hashchange")); } }, t("new.forget"))));
  }
}

const mark = (number, index) => h("span", { class: "step-number", "aria-hidden": "true" }, number < index ? "✓" : String(number + 1));

