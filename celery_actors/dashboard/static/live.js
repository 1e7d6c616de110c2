/* Asks for JSON every two seconds while the page is in sight, and says whether that works. */
"use strict";

const live = (() => {
  const SECONDS = 2;
  const dot = document.getElementById("ca-dot");
  const status = document.getElementById("ca-status");

  function say(text, well) {
    // The region is read aloud: it changes only where there is news.
    if (status.textContent !== text) status.textContent = text;
    dot.classList.toggle("status-dot-live", well);
    dot.classList.toggle("status-dot-error", !well);
  }

  async function ask(url) {
    let answer;
    try {
      answer = await fetch(url, { credentials: "same-origin", redirect: "manual" });
    } catch {
      throw new Error("Flower does not answer");
    }
    if (answer.type === "opaqueredirect" || answer.status === 401) {
      throw new Error("Log in again: reload this page");
    }
    const found = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(found.error || `Flower answers ${answer.status}`);
    return found;
  }

  function start(url, show) {
    let timer = null;

    async function turn() {
      timer = null;
      try {
        const found = await ask(url);
        performance.clearMeasures("ca-render");
        const begun = performance.now();
        show(found);
        performance.measure("ca-render", { start: begun, end: performance.now() });
        say("Live", true);
      } catch (error) {
        say(error.message, false);
      }
      if (!document.hidden) timer = setTimeout(turn, SECONDS * 1000);
    }

    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && timer === null) timer = setTimeout(turn, 0);
    });
    turn();
  }

  /* Text goes in as text: nothing that a user has named is ever read as HTML. */
  function element(tag, options = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (name === "text") made.textContent = value;
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  function bytes(amount) {
    if (amount === null || amount === undefined) return "–";
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let step = 0;
    while (amount >= 1024 && step < units.length - 1) {
      amount /= 1024;
      step += 1;
    }
    return `${step && amount < 100 ? amount.toFixed(1) : Math.round(amount)} ${units[step]}`;
  }

  const number = (value) => (value === null || value === undefined ? "–" : value.toLocaleString());
  const share = (value) => (value === null || value === undefined ? "–" : `${Math.round(value * 100)} %`);
  const moment = (seconds) => (seconds ? new Date(seconds * 1000).toLocaleString() : "–");

  return { start, element, bytes, number, share, moment };
})();
