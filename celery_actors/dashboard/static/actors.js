/* The table of actors: a row per actor that stays the same element for as long as the actor is here,
   so that focus, selection and scroll position outlast each update. */
"use strict";

(() => {
  const { element, bytes, number, share } = live;
  const page = document.getElementById("ca-page");
  const body = document.getElementById("ca-rows");
  const head = document.getElementById("ca-head");
  const filter = document.getElementById("ca-filter");
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

  // key: what sorts; text: what is shown.
  const COLUMNS = [
    { title: "Class", key: (a) => a.class },
    { title: "Name", key: (a) => a.name || a.id.slice(0, 8), link: true },
    { title: "State", key: (a) => a.state, state: true },
    { title: "Node", key: (a) => a.host },
    { title: "PID", key: (a) => a.pid || null, text: (a) => String(a.pid || "–") },
    { title: "Devices", key: (a) => a.devices.join(", ") },
    { title: "Queue", key: (a) => a.queued, text: (a) => number(a.queued) },
    { title: "Calls/s", key: (a) => a.rate, text: (a) => number(a.rate) },
    { title: "Restarts", key: (a) => a.restarts, text: (a) => number(a.restarts) },
    { title: "Memory", key: (a) => a.memory, text: (a) => bytes(a.memory) },
    { title: "CPU", key: (a) => a.cpus, text: (a) => share(a.cpus) },
    { title: "Last error", key: (a) => a.error || (a.state === "DEAD" ? a.cause : ""), long: true },
  ];
  const NUMBERS = new Set(["PID", "Queue", "Calls/s", "Restarts", "Memory", "CPU"]);

  const rows = new Map(); // actor id -> { tr, cells, actor }
  const asked = new URLSearchParams(location.search);
  const known = COLUMNS.findIndex((column) => column.title === asked.get("sort"));
  let sortBy = known < 0 ? 0 : known;
  let descending = asked.get("order") === "descending";
  filter.value = asked.get("filter") || "";

  COLUMNS.forEach((column, index) => {
    const button = element("button", { type: "button", class: "ca-sort", text: column.title });
    button.addEventListener("click", () => {
      descending = sortBy === index && !descending;
      sortBy = index;
      remember();
      arrange();
    });
    const options = { role: "columnheader", scope: "col" };
    if (NUMBERS.has(column.title)) options.class = "ca-number";
    head.append(element("th", options, button));
  });
  filter.addEventListener("input", () => {
    remember();
    arrange();
  });

  function remember() {
    const words = new URLSearchParams({ sort: COLUMNS[sortBy].title });
    if (descending) words.set("order", "descending");
    if (filter.value) words.set("filter", filter.value);
    history.replaceState(null, "", `?${words}`);
  }

  // A row without texts; each actor's is a copy of it, which is quicker than to make them one by one.
  const pattern = element("tr", { role: "row" }, ...COLUMNS.map((column) => {
    const options = { role: "cell", "data-label": column.title };
    if (NUMBERS.has(column.title)) options.class = "ca-number";
    if (column.long) options.class = "ca-long";
    const cell = element("td", options);
    if (column.link) cell.append(element("a"));
    if (column.state) cell.append(element("span", { class: "ca-state" }));
    return cell;
  }));

  function makeRow(actor) {
    const tr = pattern.cloneNode(true);
    tr.id = `actor-${actor.id}`;
    tr.querySelector("a").href = page.dataset.actor.replace("ID", encodeURIComponent(actor.id));
    return { tr, cells: [...tr.children], shown: [] };
  }

  function fill(row, actor) {
    row.actor = actor;
    COLUMNS.forEach((column, index) => {
      const text = (column.text || column.key)(actor) || "–";
      if (row.shown[index] === text) return;
      row.shown[index] = text;
      const cell = row.cells[index];
      const place = column.link || column.state ? cell.firstChild : cell;
      place.textContent = text;
      if (column.state) place.dataset.state = text;
      if (column.long) cell.title = text === "–" ? "" : text;
    });
    row.words = [actor.class, actor.name, actor.id, actor.state, actor.host, ...actor.devices,
      actor.error, actor.cause].join(" ").toLowerCase();
  }

  function compare(one, other) {
    const key = COLUMNS[sortBy].key;
    const [a, b] = [key(one.actor), key(other.actor)];
    const missing = (value) => value === null || value === undefined || value === "";
    if (missing(a) !== missing(b)) return missing(a) ? 1 : -1; // always last
    let order = 0;
    if (!missing(a)) order = typeof a === "number" ? a - b : collator.compare(a, b);
    if (order) return descending ? -order : order;
    return collator.compare(one.actor.name, other.actor.name) || (one.actor.id < other.actor.id ? -1 : 1);
  }

  function arrange() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = [...rows.values()].filter((row) => words.every((word) => row.words.includes(word)));
    wanted.sort(compare);
    const focused = document.activeElement;
    let at = body.firstElementChild;
    for (const { tr } of wanted) {
      if (tr === at) at = at.nextElementSibling;
      else body.insertBefore(tr, at);
    }
    while (at) {
      const next = at.nextElementSibling;
      at.remove();
      at = next;
    }
    // An element that was moved has lost the focus.
    if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
    [...head.children].forEach((th, index) => {
      const order = index !== sortBy ? "none" : descending ? "descending" : "ascending";
      if (th.getAttribute("aria-sort") !== order) th.setAttribute("aria-sort", order);
    });
    put("ca-count", wanted.length === rows.size
      ? `${number(rows.size)} actors` : `${number(wanted.length)} of ${number(rows.size)} actors`);
    document.getElementById("ca-empty").hidden = wanted.length > 0;
  }

  function put(id, text) {
    const place = document.getElementById(id);
    if (place.textContent !== text) place.textContent = text;
  }

  function summarise(actors) {
    const total = (key) => actors.reduce((sum, actor) => sum + (actor[key] || 0), 0);
    put("ca-alive", number(actors.filter((actor) => actor.state === "ALIVE").length));
    put("ca-rate", number(Math.round(total("rate") * 10) / 10));
    put("ca-queued", number(total("queued")));
    put("ca-errors", number(actors.filter((actor) => actor.error).length));
  }

  function showNodes(nodes) {
    put("ca-node-count", number(nodes.length));
    const place = document.getElementById("ca-nodes");
    const told = JSON.stringify(nodes);
    if (place.told === told) return;
    place.told = told;
    place.replaceChildren(...nodes.map(nodeCard));
  }

  function nodeCard(node) {
    const amount = (name, value) => (name === "memory" ? bytes(value) : number(value));
    const facts = node.resources.map((each) => element("li", {
      text: `${each.name}: ${amount(each.name, each.total - each.free)} of ${amount(each.name, each.total)} in use`,
    }));
    const devices = node.devices.map((device) => element("li", {
      text: `GPU ${device.id}${device.type ? ` ${device.type}` : ""}: `
        + (device.holders.length ? `${share(1 - device.free)} held by ${device.holders.join(", ")}` : "free"),
    }));
    const state = element("span", { class: "ca-state", "data-state": node.state, text: node.state });
    return element("article", { class: "ca-node" },
      element("h2", { text: node.host, title: node.id }), state,
      element("ul", {}, element("li", { text: `${number(node.workers)} workers` }), ...facts, ...devices));
  }

  live.start(page.dataset.url, ({ actors, nodes }) => {
    const here = new Set();
    for (const actor of actors) {
      here.add(actor.id);
      let row = rows.get(actor.id);
      if (!row) rows.set(actor.id, (row = makeRow(actor)));
      fill(row, actor);
    }
    for (const id of rows.keys()) if (!here.has(id)) rows.delete(id);
    summarise(actors);
    showNodes(nodes);
    arrange();
  });
})();
