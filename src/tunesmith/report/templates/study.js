"use strict";
(() => {
  // Single marks say what they are where the pointer is: at once, and on a touch, where browsers' own words do not come.
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  const hide = () => { tip.hidden = true; };
  document.querySelectorAll("svg.at > title").forEach((title) => {
    const mark = title.parentElement;
    const words = title.textContent;
    mark.setAttribute("aria-label", words);
    title.remove();
    const show = (event) => {
      tip.textContent = words;
      tip.hidden = false;
      const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
      tip.style.left = `${Math.max(8, left) + scrollX}px`;
      tip.style.top = `${Math.max(8, event.clientY - tip.offsetHeight - 10) + scrollY}px`;
    };
    mark.addEventListener("pointerenter", show);
    mark.addEventListener("pointerdown", show);
    mark.addEventListener("pointerleave", hide);
  });
  addEventListener("scroll", hide, { passive: true });
})();
