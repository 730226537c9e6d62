// The foot of every step: back, and on.

import { h } from "./elements.js";
import { t } from "./language.js";

export function onwards(back, text, onclick, { disabled = false } = {}) {
  return h("div", { class: "onwards" },
    back ? h("a", { class: "button", href: `#/new/${back}` }, t("new.back")) : h("span", {}),
    h("button", { type: "button", class: "primary", disabled, onclick }, text));
}

export const go = (step) => { location.hash = `#/new/${step}`; };
