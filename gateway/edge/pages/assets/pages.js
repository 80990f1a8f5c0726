// What betters the pages. Without it they say and do the same.

"use strict";

const REFRESH_MS = 3000;

// The credit, kept as it stands while somebody looks.
async function refresh(address, place) {
  if (document.hidden || place.contains(document.activeElement)) {
    return;
  }
  const reply = await fetch(address, { credentials: "same-origin", cache: "no-store" });
  if (reply.redirected) {
    location.reload(); // signed out, or the key does not work any more
  } else if (reply.ok) {
    const text = await reply.text();
    if (text !== place.dataset.shown) {
      place.dataset.shown = text;
      place.innerHTML = text;
    }
  }
}

function keepFresh() {
  const address = document.body.dataset.refresh;
  const place = document.getElementById("live");
  if (address && place) {
    setInterval(() => refresh(address, place).catch(() => undefined), REFRESH_MS);
  }
}

// A bar of a chart says what it stands for beside the pointer.
function pointOut() {
  for (const chart of document.querySelectorAll("figure.chart")) {
    const tip = chart.querySelector(".tip");
    for (const bar of chart.querySelectorAll("[data-tip]")) {
      bar.addEventListener("pointerenter", () => {
        tip.textContent = bar.dataset.tip;
        tip.hidden = false;
        const box = bar.getBoundingClientRect();
        const whole = chart.getBoundingClientRect();
        const middle = box.left + box.width / 2 - whole.left;
        const most = whole.width - tip.offsetWidth;
        tip.style.left = `${Math.max(0, Math.min(most, middle - tip.offsetWidth / 2))}px`;
      });
      bar.addEventListener("pointerleave", () => {
        tip.hidden = true;
      });
    }
  }
}

keepFresh();
pointOut();
