/* The page of one actor. */
"use strict";

(() => {
  const { element, bytes, number, share, moment } = live;
  const page = document.getElementById("ca-page");
  const COLOURS = /\u001b\[[0-9;]*m/g; // as programs print them for terminals

  function facts(actor) {
    const worker = actor.worker
      ? element("a", { href: page.dataset.worker.replace("NAME", encodeURIComponent(actor.worker)), text: actor.worker })
      : "–";
    const limit = actor.max_restarts < 0 ? "any number" : number(actor.max_restarts);
    const error = actor.error ? `${actor.error} (${moment(actor.error_at)})` : "–";
    const found = [
      ["State", element("span", { class: "ca-state", "data-state": actor.state, text: actor.state })],
      ...(actor.cause ? [[actor.state === "DEAD" ? "Cause of death" : "Why it last ended", actor.cause]] : []),
      ["Last error", error],
      ["Class", actor.class],
      ["Name", actor.name ? `${actor.name} in ${actor.namespace}` : "–"],
      ["Id", actor.id],
      ["Node", actor.node || "–"],
      ["Worker", worker],
      ["PID", String(actor.pid || "–")],
      ["Devices", actor.devices.join(", ") || "–"],
      ["Needs", actor.needs || "–"],
      ["Queue", `${actor.queue}: ${number(actor.queued)} calls`],
      ["Calls", `${number(actor.calls)} settled, ${number(actor.rate)} a second`],
      ["Restarts", `${number(actor.restarts)} of ${limit}`],
      ["Memory", bytes(actor.memory)],
      ["CPU", share(actor.cpus)],
      ["Holders", `${number(actor.handles)} handles, ${number(actor.callers)} callers so far`],
      ["Reminders", number(actor.reminders)],
    ];
    if (actor.durable) {
      const journal = actor.journal_calls ? `, and ${number(actor.journal_calls)} calls in its journal` : "";
      found.push(["Durable state", `${bytes(actor.state_bytes)}${journal}`]);
    }
    return found;
  }

  function showFacts(actor) {
    const list = document.getElementById("ca-facts");
    const focused = list.contains(document.activeElement);
    list.replaceChildren(...facts(actor).map(([name, value]) => element("div", { class: "detail-row" },
      element("dt", { text: name }), element("dd", {}, value))));
    if (focused) list.querySelector("a")?.focus({ preventScroll: true });
  }

  function callRow(call) {
    const args = call.args === null && call.kwargs === null ? "–"
      : [call.args, call.kwargs === "{}" ? "" : call.kwargs].filter(Boolean).join(" ");
    const link = element("a", { href: call.url, text: call.name || call.id, title: call.id });
    const runtime = call.runtime === null ? "–" : `${(call.runtime * 1000).toFixed(2)} ms`;
    const cells = [link, call.state, args, call.exception || call.result || "–", moment(call.received), runtime];
    const titles = ["Call", "State", "Arguments", "Result", "Received", "Runtime"];
    return element("tr", { role: "row" }, ...cells.map((value, index) =>
      element("td", { role: "cell", "data-label": titles[index] }, value)));
  }

  let shownCalls = "";

  function showCalls(calls) {
    document.getElementById("ca-no-calls").hidden = calls.length > 0;
    const told = JSON.stringify(calls);
    if (told === shownCalls) return;
    shownCalls = told;
    const body = document.getElementById("ca-calls");
    const focused = document.activeElement?.getAttribute("href");
    const inside = body.contains(document.activeElement);
    body.replaceChildren(...calls.map(callRow));
    if (inside) body.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }

  function showLogs(lines) {
    const place = document.getElementById("ca-logs");
    const text = lines.join("\n").replace(COLOURS, "");
    document.getElementById("ca-no-logs").hidden = lines.length > 0;
    place.hidden = lines.length === 0;
    if (place.textContent === text) return;
    const follows = place.scrollTop + place.clientHeight >= place.scrollHeight - 4;
    place.textContent = text;
    if (follows) place.scrollTop = place.scrollHeight;
  }

  live.start(page.dataset.url, ({ actor, calls }) => {
    showFacts(actor);
    showCalls(calls);
    showLogs(actor.lines);
  });
})();
