// What was chosen so far for the next training. It belongs to this tab, and a reload keeps it.

import { post } from "./requests.js";

const KEPT = "tunesmith-draft";
const EMPTY = {
  data: "", dataName: "", columns: {}, task: "", foundTask: "", chats: false, model: "", method: "", settings: {}, more: "", name: "", methods: [],
  seeds: 3, rates: 3, budget: "", within: "", memory: "", intent: "train",
};

export const draft = load();

function load() {
  try { return { ...EMPTY, ...JSON.parse(sessionStorage.getItem(KEPT) ?? "{}") }; } catch { return { ...EMPTY }; }
}

export function keep(changes) {
  Object.assign(draft, changes);
  try { sessionStorage.setItem(KEPT, JSON.stringify(draft)); } catch { /* it lasts as long as the page */ }
}

export function forget() {
  for (const key of Object.keys(draft)) delete draft[key];
  keep(structuredClone(EMPTY));
}

// As the server takes it. Settings that were left empty are not given: the data decides them.
export function asked({ mask = false } = {}) {
  const fields = Object.entries(draft.settings).filter(([, value]) => value !== "").map(([key, value]) => `${key}=${value}`);
  const more = draft.more.split("\n").map((line) => line.trim()).filter(Boolean);
  const isContest = draft.intent === "compare";
  return {
    draft: {
      data: draft.data, columns: draft.columns, task: draft.task, model: draft.model, method: draft.method,
      settings: [...fields, ...more], name: draft.name, methods: draft.methods,
      seeds: isContest ? Number(draft.seeds) : null, rates: isContest ? Number(draft.rates) : null, budget: isContest ? draft.budget : "",
    },
    mask, within: draft.within, memory: draft.memory,
  };
}

export const commandsOf = (signal) => post("/api/commands", asked(), signal);
