// Elements are made of names, attributes and texts. Nothing here reads HTML: what stands in data is shown as text.

const SVG = "http://www.w3.org/2000/svg";

export function h(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function s(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else if (name === "value") element.value = value;
    else if (name === "checked" || name === "selected" || name === "disabled" || name === "open") element[name] = Boolean(value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  add(element, children);
  return element;
}

export function add(element, children) {
  for (const child of [children].flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === "") continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

export function replace(element, ...children) {
  element.replaceChildren();
  return add(element, children);
}

// Said to screen readers, without taking the focus away.
export function say(text) {
  const place = document.getElementById("said");
  place.textContent = "";
  setTimeout(() => { place.textContent = text; }, 50);
}

// Calls `work` now and again until the page is left; a page that is not looked at is asked about seldom.
export function poll(signal, milliseconds, work) {
  let timer = 0;
  const again = async () => {
    if (signal.aborted) return;
    let goesOn = true;
    // What is refused now may be answered the next time: a studio that was started again, for one.
    try { goesOn = (await work()) !== false; } catch (error) { if (!signal.aborted && error.status === undefined) throw error; }
    if (goesOn && !signal.aborted) timer = setTimeout(again, document.hidden ? 4 * milliseconds : milliseconds);
  };
  signal.addEventListener("abort", () => clearTimeout(timer));
  again();
}

// Shows something anew without taking the focus, or closing what was opened.
export function renew(place, ...children) {
  const reachable = () => [...place.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']")];
  const before = reachable();
  const focused = before.indexOf(document.activeElement);
  const opened = [...place.querySelectorAll("details")].map((one) => one.open);
  replace(place, ...children);
  place.querySelectorAll("details").forEach((one, index) => { one.open ||= Boolean(opened[index]); });
  if (focused < 0) return;
  // What stands in its place now may be something else: a key pressed a moment later is not meant for that.
  const now = reachable()[focused];
  if (now?.tagName === before[focused].tagName && now.textContent === before[focused].textContent) now.focus({ preventScroll: true });
}
