"use strict";
(() => {
  const root = document.documentElement;

  // Light and dark: the system's choice until the button is used.
  const button = document.getElementById("theme");
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);
  const remember = (theme) => { try { localStorage.setItem("tunesmith-theme", theme); } catch { /* private mode */ } };
  try {
    const saved = localStorage.getItem("tunesmith-theme");
    if (saved === "dark" || saved === "light") root.dataset.theme = saved;
  } catch { /* storage is not allowed for this page */ }
  const name = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember(root.dataset.theme);
    name();
  });
  systemDark.addEventListener("change", name);
  name();

  // A link into a closed run opens it; printing opens all.
  const openTarget = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const run = target && target.closest("details");
    if (run) { run.open = true; target.scrollIntoView(); }
  };
  addEventListener("hashchange", openTarget);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (link && link.getAttribute("href") === location.hash) openTarget();
  });
  openTarget();
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((run) => { run.open = true; }));

  // Sortable tables: a click sorts, another one turns the order round; missing numbers stay last.
  document.querySelectorAll("table.sortable th[data-sort]").forEach((head) => {
    const column = head.cellIndex;
    const body = head.closest("table").tBodies[0];
    const control = document.createElement("button");
    control.type = "button";
    control.className = "sort";
    control.append(...head.childNodes);
    head.append(control);
    control.addEventListener("click", () => {
      const isNumber = head.dataset.sort === "number";
      const up = head.ariaSort ? head.ariaSort === "descending" : !isNumber;
      head.parentElement.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => {
        const cell = row.cells[column];
        return isNumber ? Number.parseFloat(cell.dataset.value) : cell.textContent.trim();
      };
      const compare = (a, b) => {
        if (!isNumber) return (up ? 1 : -1) * value(a).localeCompare(value(b), undefined, { numeric: true });
        const [x, y] = [value(a), value(b)];
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return up ? x - y : y - x;
      };
      body.append(...[...body.rows].sort(compare));
    });
  });

  // Read-outs: the values of every line nearest to the pointer.
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  const show = (value) => {
    const size = Math.abs(value);
    if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(2).replace("-", "−");
    return (size >= 100 ? value.toFixed(0) : value.toPrecision(3)).replace("-", "−");
  };
  const showX = (value) => (Number.isInteger(value) ? String(value) : show(value));
  document.querySelectorAll("svg.drawing[data-x]").forEach((chart) => {
    const title = chart.querySelector("title");
    if (title) { chart.setAttribute("aria-label", title.textContent); title.remove(); }
    const [xLow, xHigh] = chart.dataset.x.split(",").map(Number);
    const [yLow, yHigh] = chart.dataset.y.split(",").map(Number);
    const inner = chart.querySelector("svg");
    const guide = document.createElementNS("http://www.w3.org/2000/svg", "line");
    guide.setAttribute("class", "guide");
    guide.setAttribute("y1", "0");
    guide.setAttribute("y2", "100%");
    guide.style.display = "none";
    chart.insertBefore(guide, inner);
    const isNamed = (line) => line.dataset.name;
    const lines = [...inner.querySelectorAll("polyline")].filter(isNamed).map((line) => ({
      name: line.dataset.name,
      colour: line.getAttribute("stroke"),
      points: (line.getAttribute("points").match(/-?\d+/g) || []).map(Number),
    }));
    const hide = () => { tip.hidden = true; guide.style.display = "none"; };
    const move = (event) => {
      const box = chart.getBoundingClientRect();
      const place = ((event.clientX - box.left) / box.width) * 10000;
      if (place < -300 || place > 10300) { hide(); return; }
      let nearest = null;
      const found = lines.map((line) => {
        let best = 0;
        for (let i = 2; i < line.points.length; i += 2) {
          if (Math.abs(line.points[i] - place) < Math.abs(line.points[best] - place)) best = i;
        }
        const [x, y] = [line.points[best], line.points[best + 1]];
        if (x === undefined) return null;
        if (nearest === null || Math.abs(x - place) < Math.abs(nearest - place)) nearest = x;
        return { line, x, y };
      }).filter(Boolean);
      if (nearest === null) return;
      const rows = [document.createElement("div")];
      const at = xLow + (nearest / 10000) * (xHigh - xLow);
      rows[0].textContent = `${chart.dataset.label} ${chart.dataset.label === "step" ? Math.round(at) : showX(at)}`;
      found.filter((hit) => Math.abs(hit.x - nearest) < 400).forEach((hit) => {
        const row = document.createElement("div");
        const key = document.createElement("span");
        key.className = "key line";
        key.style.setProperty("--key", hit.line.colour);
        const value = document.createElement("strong");
        value.textContent = show(yHigh - (hit.y / 10000) * (yHigh - yLow));
        row.append(key, value, ` ${hit.line.name}`);
        rows.push(row);
      });
      tip.replaceChildren(...rows);
      tip.hidden = false;
      guide.style.display = "";
      guide.setAttribute("x1", `${nearest / 100}%`);
      guide.setAttribute("x2", `${nearest / 100}%`);
      const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
      tip.style.left = `${Math.max(8, left) + scrollX}px`;
      tip.style.top = `${Math.max(8, event.clientY - tip.offsetHeight - 10) + scrollY}px`;
    };
    const plot = chart.parentElement;
    plot.addEventListener("pointermove", move);
    plot.addEventListener("pointerdown", move);
    plot.addEventListener("pointerleave", hide);
  });
})();
