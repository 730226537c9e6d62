// Small charts, drawn as those of the reports are: lines over steps, intervals on a common axis.

import { h, replace, s } from "./elements.js";
import { t } from "./language.js";
import { number } from "./format.js";
import { term } from "./pieces.js";

const WIDE = 10000;
const LEFT = 9;
const COLOURS = ["var(--series-0)", "var(--series-1)", "var(--series-2)", "var(--series-3)", "var(--series-4)", "var(--series-5)"];
export const colour = (index) => COLOURS[index % COLOURS.length];

function range(values) {
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (!(high > low)) { const pad = Math.abs(low) * 0.1 || 1; low -= pad; high += pad; }
  const pad = (high - low) * 0.06;
  return [low - pad, high + pad];
}

function ticks(low, high, wanted = 4) {
  const raw = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= raw);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9; at += step) found.push(Math.abs(at) < step * 1e-9 ? 0 : at);
  return found;
}

// A mean of each stretch of a long series, so that a line has at most so many points.
export function thinned(points, most = 400) {
  if (points.length <= most) return points;
  const every = points.length / most;
  const found = [];
  for (let index = 0; index < most; index += 1) {
    const part = points.slice(Math.floor(index * every), Math.floor((index + 1) * every));
    found.push([part[part.length - 1][0], part.reduce((sum, [, y]) => sum + y, 0) / part.length]);
  }
  return found;
}

export function smoothed(points, weight = 0.9) {
  let mean = 0;
  let mass = 0;
  return points.map(([x, y]) => {
    mean = weight * mean + (1 - weight) * y;
    mass = weight * mass + (1 - weight);
    return [x, mean / mass];
  });
}

// A figure with lines; `draw(series)` shows others. A series is {name, points: [[x, y]], faint, dots}.
export function lineChart(title, about, xName) {
  const legend = h("ul", { class: "legend" });
  const plot = h("div", { class: "plot" });
  const note = h("p", { class: "note" });
  const element = h("figure", { class: "card chart" }, h("figcaption", {}, h("h3", {}, title, " ", term(about))), legend, plot, note);
  const draw = (series, until) => {
    const known = series.map((one) => ({ ...one, points: one.points.filter(([, y]) => Number.isFinite(y)) })).filter((one) => one.points.length);
    if (!known.length) {
      replace(legend);
      replace(plot, h("p", { class: "quiet" }, t("chart.waiting")));
      replace(note);
      return;
    }
    const all = known.flatMap((one) => one.points);
    const [low, high] = range(all.map(([, y]) => y));
    const xLow = Math.min(0, ...all.map(([x]) => x));
    const xHigh = Math.max(until ?? 0, ...all.map(([x]) => x), xLow + 1);
    const px = (x) => (x - xLow) / (xHigh - xLow);
    const py = (y) => (high - y) / (high - low);
    const last = known.filter((one) => !one.faint).map((one) => `${one.name} ${number(one.points[one.points.length - 1][1])}`);
    const svg = s("svg", { class: "drawing", role: "img", "aria-label": `${title}: ${last.join(", ")}` });
    for (const at of ticks(low, high)) {
      const y = `${100 * py(at)}%`;
      svg.append(s("line", { class: "grid", x1: `${LEFT}%`, x2: "100%", y1: y, y2: y }));
      svg.append(s("text", { x: `${LEFT - 1}%`, y, dy: ".32em", "text-anchor": "end" }, number(at, 2)));
    }
    for (const at of ticks(xLow, xHigh, 5)) {
      if (at !== Math.round(at)) continue;
      svg.append(s("text", { x: `${LEFT + (100 - LEFT) * px(at)}%`, y: "100%", dy: "1.4em", "text-anchor": at >= xHigh * 0.98 ? "end" : "middle" }, String(at)));
    }
    const inner = s("svg", { x: `${LEFT}%`, width: `${100 - LEFT}%`, height: "100%", viewBox: `0 0 ${WIDE} ${WIDE}`, preserveAspectRatio: "none" });
    known.forEach((one, index) => {
      const points = one.points.map(([x, y]) => `${Math.round(WIDE * px(x))},${Math.round(WIDE * py(y))}`).join(" ");
      const stroke = one.colour ?? colour(index);
      inner.append(s("polyline", { class: one.faint ? "line faint" : "line", points, stroke }));
      if (one.dots) inner.append(s("path", { class: "dots", stroke, d: points.split(" ").map((point) => `M${point.replace(",", " ")}h0`).join("") }));
    });
    svg.append(inner);
    replace(plot, svg, h("p", { class: "axis-name x" }, xName));
    replace(legend, known.map((one, index) => {
      const key = h("span", { class: one.faint ? "key faint" : "key" });
      key.style.setProperty("--key", one.colour ?? colour(index));
      return h("li", {}, key, one.name, h("strong", {}, one.faint ? "" : number(one.points[one.points.length - 1][1])));
    }));
  };
  draw([]);
  return { element, draw };
}

// One interval on an axis that several share.
export function whisker(value, low, high, [from, to], index = 0) {
  const at = (number) => `${Math.max(0, Math.min(100, (100 * (number - from)) / (to - from)))}%`;
  const svg = s("svg", { class: "whiskers", "aria-hidden": "true" });
  svg.style.setProperty("--key", colour(index));
  svg.append(s("line", { class: "grid", x1: "0", x2: "100%", y1: "50%", y2: "50%" }));
  if (low !== null && high !== null) svg.append(s("line", { class: "whisker", x1: at(low), x2: at(high), y1: "50%", y2: "50%", stroke: "var(--key)" }));
  svg.append(s("circle", { class: "estimate", cx: at(value), cy: "50%", r: "5.5" }));
  return svg;
}

export function axisOf(lines) {
  const values = lines.flatMap((one) => [one.mean, one.low, one.high]).filter((one) => typeof one === "number");
  return values.length ? range(values) : [0, 1];
}

export function bar(part, label) {
  const filled = h("span", { class: "bar-fill" });
  filled.style.setProperty("inline-size", `${Math.max(0, Math.min(1, part)) * 100}%`);
  return h("span", { class: "bar-line", role: label ? "img" : null, "aria-label": label, "aria-hidden": label ? null : "true" }, filled);
}

export function progressBar(label) {
  const filled = h("span", { class: "bar-fill" });
  const element = h("div", { class: "progress", role: "progressbar", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100" }, filled);
  const set = (part) => {
    if (part === null) { element.classList.add("unknown"); element.removeAttribute("aria-valuenow"); return; }
    element.classList.remove("unknown");
    element.setAttribute("aria-valuenow", String(Math.round(100 * part)));
    filled.style.setProperty("inline-size", `${100 * Math.max(0, Math.min(1, part))}%`);
  };
  set(null);
  return { element, set };
}
