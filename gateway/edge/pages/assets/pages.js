// What betters the pages. Without it they say and do the same.

"use strict";

// Whether somebody is at work in a part of the page: has the focus there, something unfolded, or text selected.
function isUsed(place) {
  const selected = getSelection();
  return (
    place.contains(document.activeElement) ||
    place.querySelector("details[open]") !== null ||
    (!selected.isCollapsed && selected.containsNode(place, true))
  );
}

// A part of the page, kept as it stands while somebody looks.
async function refresh(place) {
  if (document.hidden || isUsed(place)) {
    return;
  }
  const reply = await fetch(place.dataset.fresh, { credentials: "same-origin", cache: "no-store" });
  if (reply.redirected) {
    location.reload(); // signed out, or what was signed in with does not work any more
  } else if (reply.ok) {
    const text = await reply.text();
    if (text !== place.dataset.shown && !isUsed(place)) {
      place.dataset.shown = text;
      place.innerHTML = text;
    }
  }
}

for (const place of document.querySelectorAll("[data-fresh]")) {
  setInterval(() => refresh(place).catch(() => undefined), place.dataset.seconds * 1000);
}

// A bar of a chart says what it stands for beside the pointer.
document.addEventListener("pointerover", (event) => {
  const bar = event.target.closest("[data-tip]");
  for (const tip of document.querySelectorAll(".tip")) {
    const chart = tip.closest("figure.chart");
    tip.hidden = !chart.contains(bar);
    if (!tip.hidden) {
      tip.textContent = bar.dataset.tip;
      const box = bar.getBoundingClientRect();
      const whole = chart.getBoundingClientRect();
      const left = box.left + box.width / 2 - whole.left - tip.offsetWidth / 2;
      tip.style.left = `${Math.max(0, Math.min(whole.width - tip.offsetWidth, left))}px`;
    }
  }
});
