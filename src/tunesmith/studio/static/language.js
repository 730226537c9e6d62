// One dictionary file for each language; a key stands for a sentence, {name} in it for what is told.

export const LANGUAGES = { en: "English", zh: "中文" };
const KEPT = "tunesmith-language";

let words = {};
let current = "en";

export const language = () => current;

export function preferred() {
  let kept = null;
  try { kept = localStorage.getItem(KEPT); } catch { /* storage is not allowed */ }
  if (kept in LANGUAGES) return kept;
  return (navigator.languages ?? []).some((one) => one.toLowerCase().startsWith("zh")) ? "zh" : "en";
}

export async function speak(name) {
  const answer = await fetch(`/static/languages/${name in LANGUAGES ? name : "en"}.json`);
  words = await answer.json();
  current = name;
  document.documentElement.lang = name;
  try { localStorage.setItem(KEPT, name); } catch { /* it is chosen again next time */ }
}

export function t(key, values = {}) {
  const text = words[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

// The word for a key, where there is one; what the program itself calls it otherwise.
export const tOr = (key, otherwise) => words[key] ?? otherwise;
