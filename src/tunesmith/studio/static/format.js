// Numbers as people read them, in the language of the page.

import { language, t } from "./language.js";

const MISSING = "–";
const locale = () => (language() === "zh" ? "zh-CN" : "en-US");
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

export function number(value, digits = 3) {
  if (!isNumber(value)) return MISSING;
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e9)) return value.toExponential(1).replace("e+", "e").replace(/-/g, "−");
  const decimals = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : digits;
  return value.toLocaleString(locale(), { maximumFractionDigits: decimals, minimumFractionDigits: decimals }).replace("-", "−");
}

export const count = (value) => (isNumber(value) ? value.toLocaleString(locale(), { maximumFractionDigits: 0 }) : MISSING);

export const rate = (value) => (isNumber(value) ? (value === 0 ? "0" : value < 0.01 ? value.toExponential(1).replace(/\.0e/, "e") : String(value)) : MISSING);

export function share(value, isShare = true) {
  return isShare ? (isNumber(value) ? `${(100 * value).toFixed(1)}%` : MISSING) : number(value);
}

export function size(bytes) {
  if (!isNumber(bytes)) return MISSING;
  let value = bytes;
  for (const unit of ["B", "KB", "MB", "GB"]) {
    if (value < 1000) return `${unit === "B" ? value : value.toFixed(value < 10 ? 1 : 0)} ${unit}`;
    value /= 1000;
  }
  return `${value.toFixed(1)} TB`;
}

export function compact(value) {
  if (!isNumber(value)) return MISSING;
  for (const [unit, limit] of [["B", 1e9], ["M", 1e6], ["K", 1e3]]) {
    if (value >= limit) return `${(value / limit).toFixed(value / limit < 10 ? 1 : 0)}${unit}`;
  }
  return String(Math.round(value));
}

export function duration(seconds) {
  if (!isNumber(seconds)) return MISSING;
  if (seconds < 60) return t("time.seconds", { n: seconds < 10 ? seconds.toFixed(1) : Math.round(seconds) });
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return t("time.minutes", { n: minutes });
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return t("time.hours", { n: hours, m: minutes % 60 });
  return t("time.days", { n: Math.round(hours / 24) });
}

export function ago(seconds) {
  const past = Date.now() / 1000 - seconds;
  const words = new Intl.RelativeTimeFormat(locale(), { numeric: "auto" });
  for (const [unit, length] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (past >= length) return words.format(-Math.round(past / length), unit);
  }
  return t("time.now");
}

// Of a model in a folder, the folder's own name is what tells it from others.
export const shortName = (name) => (name.startsWith("/") ? name.split("/").filter(Boolean).pop() ?? name : name);
