"use strict";
// What the page is told (Server-Sent Events; see PageFeed), and what it makes of it. Texts become text nodes, never markup.
const MOST_NODES = 300, MOST_CLAIMS = 200, OPEN_BY_ITSELF = 4, OPEN_BY_FILTER = 12, SILENCE = 12000;
const items = { node: new Map(), claim: new Map(), alias: new Map() };
const opened = new Map(); // what a person opened or closed, by key
const answers = new Map(); // explanations, by claim
const drawn = { node: new Map(), claim: new Map() }; // elements that are made, by key
const changed = new Set();
let status = null, told = null, heard = 0, lostPlugin = null, everReady = false, words = [], awaited = false;
const $ = id => document.getElementById(id);

function el(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) if (value != null) made.setAttribute(name, value);
  made.append(...children.filter(c => c != null && c !== ""));
  return made;
}
const span = (css, text, title) => el("span", { class: css, title }, text ?? "");

// ---- words ----
const MARKS = { available: ["○", "free"], claimed: ["◐", "moving"], allocated: ["●", "held"], unclaimable: ["◐", "moving"], unavailable: ["✕", "bad"], removed: ["✕", "bad"] };
const markOf = state => MARKS[state] ?? ["·", "faint"];
const several = (n, one, many) => `${n} ${n === 1 ? one : many ?? one + "s"}`;
function lasted(seconds) {
  seconds = Math.max(0, Math.round(seconds));
  return seconds < 120 ? `${seconds} s` : seconds < 7200 ? `${Math.floor(seconds / 60)} min` : seconds < 172800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} d`;
}
const clock = time => new Date(time).toLocaleTimeString();
const byName = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
const natural = new Intl.Collator("en", { numeric: true }).compare;

// ---- filter ----
const textOf = d => [d.node, d.address, d.name, d.vendorId + ":" + d.productId, d.type, d.driver, d.interface, d.state, d.claim, d.spec, "group " + d.iommuGroup, "numa " + d.numaNode, d.reason].join(" ").toLowerCase();
const has = text => words.every(w => text.includes(w));
const hay = new WeakMap();
function text(object, make) {
  let known = hay.get(object);
  if (known === undefined) hay.set(object, known = make(object));
  return known;
}
const matches = device => has(text(device, textOf));
const claimMatches = (key, c) => has(text(c, () => [key, c.phase, c.node, c.requests, c.message, c.inUse, ...c.devices].join(" ").toLowerCase()));

// ---- nodes ----
function shownDevices(card) {
  if (words.length === 0) return card.devices;
  if (has(card.node.name.toLowerCase())) return card.devices;
  return card.devices.filter(matches);
}
function isOpen(key, byItself) { return opened.get(key) ?? byItself; }
function fold(key, byItself, css, summary, fill) {
  const details = el("details", { class: css, "data-key": key }, summary);
  summary.dataset.focus = key;
  details.open = isOpen(key, byItself);
  let filled = false;
  const ensure = () => { if (!filled && details.open) { filled = true; fill(details); } };
  ensure();
  details.addEventListener("toggle", ensure);
  // Only what a person does is kept: what opens by itself closes by itself.
  summary.addEventListener("click", () => opened.set(key, !details.open));
  return details;
}
function bar(devices) {
  const offered = devices.filter(d => d.spec), parts = [["held", 0], ["moving", 0], ["free", 0], ["bad", 0]];
  for (const d of offered) { const p = parts.find(p => p[0] === markOf(d.state)[1]); if (p) p[1]++; }
  const made = el("span", { class: "bar", "aria-hidden": "true" });
  for (const [css, n] of parts) if (n > 0) { const part = el("i", { class: css }); part.style.flexGrow = n; made.append(part); }
  return made;
}
function drawNode(name, card, byItself, shown) {
  const n = card.node, key = "node/" + name;
  const summary = el("summary", {}, el("strong", {}, name), bar(card.devices),
    span(n.free > 0 ? "free" : "faint", `${n.free} of ${n.devices} free`), span("faint", n.claims > 0 ? `${n.held} held by ${several(n.claims, "claim")}` : "none held"),
    words.length > 0 && shown.length < card.devices.length ? span("faint", several(shown.length, "match", "matches")) : null,
    card.unusable ? span("bad", `✕ ${card.unusable}`) : null,
    card.problems.length > 0 ? span("bad", `✕ ${several(card.problems.length, "problem")}`) : null);
  return fold(key, byItself, "card", summary, details => {
    if (card.problems.length > 0) details.append(el("ul", { class: "plain problems" }, ...card.problems.map(p => el("li", {}, p))));
    const numas = new Map(card.numaNodes.map(m => [m.id, m.socket]));
    for (const d of shown) if (d.numaNode != null && !numas.has(d.numaNode)) numas.set(d.numaNode, d.socket);
    for (const id of [...numas.keys()].sort((a, b) => a - b)) {
      const here = shown.filter(d => d.numaNode === id);
      if (here.length > 0 || words.length === 0) drawNuma(details, card, `NUMA node ${id}` + (numas.get(id) != null ? ` · socket ${numas.get(id)}` : ""), here);
    }
    const nowhere = shown.filter(d => d.numaNode == null);
    if (nowhere.length > 0) drawNuma(details, card, "NUMA node not known", nowhere);
  });
}
function drawNuma(parent, card, title, devices) {
  const free = devices.filter(d => d.spec && d.state === "available").length, offered = devices.filter(d => d.spec).length;
  const numa = el("div", { class: "numa", role: "group", "aria-label": `${card.node.name} ${title}` },
    el("h3", {}, title + " ", span("faint", offered > 0 ? `${free} of ${offered} free` : "no devices")));
  const roots = Map.groupBy(devices, d => d.pcieRoot ?? "");
  for (const root of [...roots.keys()].sort(byName)) {
    const here = roots.get(root), known = new Set(card.devices.map(d => d.address)), seen = new Set(here.map(d => d.address));
    const vfs = Map.groupBy(here.filter(d => d.parentAddress), d => d.parentAddress);
    const sizes = new Map();
    for (const d of here) sizes.set(d.iommuGroup, (sizes.get(d.iommuGroup) ?? 0) + 1);
    const list = el("ul", { class: "plain" });
    for (const d of here) {
      if (d.parentAddress) continue;
      list.append(drawDevice(card, d, sizes));
      if (vfs.has(d.address)) list.append(drawVfs(card, d.address, d, vfs.get(d.address), sizes));
    }
    for (const [pf, those] of vfs) if (!seen.has(pf)) list.append(drawVfs(card, pf, known.has(pf), those, sizes));
    numa.append(el("p", { class: "root" }, root ? `root ${root}` : "root bus not known"), list);
  }
  parent.append(numa);
}
function drawDevice(card, d, sizes) {
  const [mark, css] = markOf(d.state), whole = d.iommuGroup != null && sizes.get(d.iommuGroup) > 1;
  const group = card.groups.find(g => g.group === d.iommuGroup);
  const why = d.problems?.join("; ") ?? d.reason ?? (d.spec ? group?.reason : null);
  return el("li", { class: whole ? "row together" : "row" },
    span("addr", d.address),
    span("", d.name, `${d.name} (${d.vendorId}:${d.productId}, ${d.type})`),
    span("faint", [d.interface, d.driver].filter(Boolean).join(" · ") || "no driver"),
    span("faint", d.iommuGroup == null ? "no group" : `group ${d.iommuGroup}`, whole ? "Its group has several devices: it goes to one claim, whole." : null),
    el("span", { class: "state-cell" }, span(css, mark), ` ${d.state}`),
    d.claim ? claimLink(d.claim) : span("faint"),
    why && why !== d.state ? span("why", why) : null);
}
function drawVfs(card, address, pf, vfs, sizes) {
  const free = vfs.filter(d => d.state === "available").length, key = `vfs/${card.node.name}/${address}`;
  const cells = el("span", { class: "cells mono", "aria-hidden": "true" });
  let run = null;
  for (const d of vfs) {
    const [mark, css] = markOf(d.state);
    if (run && run.className === css) run.append(mark); else cells.append(run = span(css, mark));
  }
  const summary = el("summary", {}, span("faint", typeof pf === "object" ? `${vfs.length} VFs` : `VFs of ${address}` + (pf ? "" : ", which no spec names")), cells, span(free > 0 ? "free" : "faint", `${free} free`));
  const held = vfs.filter(d => d.claim).length;
  if (held > 0) summary.append(span("faint", `${held} held`));
  return el("li", {}, fold(key, words.length > 0 && vfs.length <= 16, "vfs", summary, details => details.append(el("ul", { class: "plain" }, ...vfs.map(d => drawDevice(card, d, sizes))))));
}
const claimId = key => "claim/" + key;
function claimLink(key) {
  if (!items.claim.has(key)) return span("held", key);
  return el("a", { class: "held", href: "#" + encodeURI(claimId(key)) }, key);
}
function drawNodes() {
  const names = [...items.node.keys()].sort(natural), list = $("node-list");
  const found = [];
  for (const name of names) {
    const card = items.node.get(name), shown = shownDevices(card);
    if (words.length === 0 || shown.length > 0 || has(name.toLowerCase())) found.push([name, card, shown]);
  }
  let free = 0, all = 0;
  for (const card of items.node.values()) { free += card.node.free; all += card.node.devices; }
  $("nodes-count").textContent = names.length === 0 ? "" : words.length > 0 ? `${found.length} of ${names.length} match` : `${names.length}, ${free} of ${all} devices free`;
  const limit = words.length > 0 ? OPEN_BY_FILTER : OPEN_BY_ITSELF, byItself = found.length <= limit;
  const cards = found.slice(0, MOST_NODES).map(([name, card, shown]) => {
    const known = drawn.node.get(name), how = byItself + "|" + words.join(" ");
    if (known && known.card === card && known.how === how && !changed.has("node/" + name)) return known.element;
    const element = drawNode(name, card, byItself, shown);
    drawn.node.set(name, { card, how, element });
    return element;
  });
  if (found.length > MOST_NODES) cards.push(el("p", { class: "faint" }, `${found.length - MOST_NODES} more nodes: filter by a word.`));
  if (found.length === 0) cards.push(el("p", { class: "faint" }, empty("pcinodes", "No PciNodes: the controller makes one for each node.", "Nothing matches.")));
  for (const name of drawn.node.keys()) if (!items.node.has(name)) drawn.node.delete(name);
  replace(list, cards);
}

// ---- claims ----
const claimState = c => c.ready ? ["●", "held", "Ready"] : c.phase === "Failed" ? ["✕", "bad", c.phase] : c.phase === "Pending" || c.phase === "New" ? ["◷", "moving", "Waits"] : ["◐", "moving", c.phase];
function drawClaims() {
  const keys = [...items.claim.keys()].sort((a, b) => (items.claim.get(a).ready - items.claim.get(b).ready) || natural(a, b));
  const found = keys.filter(k => words.length === 0 || claimMatches(k, items.claim.get(k)));
  const waiting = keys.filter(k => !items.claim.get(k).node).length;
  $("claims-count").textContent = (keys.length === 0 ? "" : words.length > 0 ? `${found.length} of ${keys.length} match` : `${keys.length}` + (waiting > 0 ? `, ${waiting} without a node` : "")) + (status?.namespace ? ` in namespace ${status.namespace}` : "");
  document.title = (waiting > 0 ? `(${waiting}) ` : "") + "PCI devices";
  const rows = found.slice(0, MOST_CLAIMS).map(k => {
    const c = items.claim.get(k), known = drawn.claim.get(k);
    if (known?.c !== c) drawn.claim.set(k, { c, element: drawClaim(k, c) });
    return drawn.claim.get(k).element;
  });
  for (const key of drawn.claim.keys()) if (!items.claim.has(key)) drawn.claim.delete(key);
  if (found.length > MOST_CLAIMS) rows.push(el("li", { class: "faint" }, `${found.length - MOST_CLAIMS} more claims: filter by a word.`));
  if (found.length === 0) rows.push(el("li", { class: "faint" }, empty("passthroughclaims", "No claims.", "Nothing matches.")));
  replace($("claim-list"), rows);
}
function drawClaim(key, c) {
  const [mark, css, word] = claimState(c);
  const line = el("div", { class: "line" }, el("strong", {}, c.name), span("faint", c.namespace), el("span", { class: "state" }, span(css, mark), " " + word));
  const row = el("li", { class: "claim", id: claimId(key) }, line,
    el("div", { class: "line" }, span("mono", c.requests), c.node ? el("a", { href: "#nodes", "data-node": c.node, "data-focus": "to/" + key }, c.node) : null, c.created ? el("time", { class: "faint", datetime: c.created }, ageOf(c.created)) : null));
  if (c.message) row.append(el("p", { class: c.node ? "faint" : "" }, c.message));
  if (c.inUse) row.append(el("p", { class: "faint" }, c.inUse));
  if (!c.node && c.phase !== "Releasing")
    row.append(fold("explain/" + key, false, "", el("summary", {}, "What each node says"), details => explain(key, c, details)));
  return row;
}
const ageOf = created => lasted((Date.now() - Date.parse(created)) / 1000);
async function explain(key, c, details) {
  const body = el("div", { "aria-live": "polite" });
  details.append(body);
  if (answers.has(key)) showAnswer(body, answers.get(key), c); else body.append(el("p", { class: "faint" }, "Asking …"));
  try {
    const answer = await fetch(`explain?namespace=${encodeURIComponent(c.namespace)}&name=${encodeURIComponent(c.name)}`);
    if (!answer.ok) throw new Error(await answer.text());
    const explained = await answer.json();
    answers.set(key, explained);
    showAnswer(body, explained, c);
  } catch (error) {
    body.replaceChildren(el("p", { class: "bad" }, `Not answered: ${error.message}`));
  }
}
function showAnswer(body, { explanation, error }, c) {
  if (error) { body.replaceChildren(el("p", { class: "bad" }, error)); return; }
  const same = Map.groupBy(explanation.nodes ?? [], n => n.fits ? "can serve it" : [...n.checks.filter(k => !k.passed).map(k => `${k.check}: ${k.why}`), n.withheld].filter(Boolean).join(" "));
  const list = el("dl", {});
  for (const [why, nodes] of same) {
    const names = nodes.map(n => n.node);
    list.append(el("dt", {}, span(nodes[0].fits ? "free" : "bad", nodes[0].fits ? "○ " : "✕ "), names.slice(0, 8).join(", ") + (names.length > 8 ? ` and ${names.length - 8} more` : "")), el("dd", { class: "faint" }, why));
  }
  body.replaceChildren(...(explanation.summary === c.message ? [] : [el("p", {}, explanation.summary)]), list, el("p", { class: "faint" }, `as of ${clock(Date.now())}`));
}

// ---- capacity ----
function drawAliases() {
  const names = [...items.alias.keys()].sort(natural).filter(n => words.length === 0 || has(n.toLowerCase()) || words.every(w => Object.keys(items.alias.get(n).capacity?.nodes ?? {}).join(" ").includes(w)));
  if (names.length === 0) { replace($("alias-list"), [el("p", { class: "faint" }, empty("pcialiases", "No PciAliases: claims ask for devices by alias.", "Nothing matches."))]); return; }
  const rows = names.map(name => {
    const alias = items.alias.get(name), more = alias.capacity?.more;
    const nodes = Object.entries(alias.capacity?.nodes ?? {}).filter(n => n[1] > 0).sort((a, b) => b[1] - a[1] || natural(a[0], b[0]));
    const where = nodes.slice(0, 6).map(([n, k]) => `${n}: ${k}`).join(", ") + (nodes.length > 6 ? `, ${nodes.length - 6} more nodes` : "");
    return el("tr", {}, el("th", { scope: "row" }, name),
      el("td", { class: "number " + (!alias.isUsable || more === 0 ? "bad" : more > 0 ? "free" : "faint") }, !alias.isUsable ? "unusable" : more == null ? "?" : String(more)),
      el("td", { class: "faint" }, where || (more === 0 ? "none left" : "")));
  });
  const missing = (status?.sources ?? []).filter(s => s.state === "forbidden" && ["pcinodes", "nodes"].includes(s.kind)).map(s => s.kind);
  const notes = [];
  if (missing.length > 0) notes.push(el("p", { class: "faint" }, `Not worked out: it takes ${missing.join(" and ")}, which you may not list.`));
  else if (stateOf("pods") === "forbidden") notes.push(el("p", { class: "faint" }, "You may not see the agents' pods: every agent is taken to be ready."));
  replace($("alias-list"), [...notes, el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "alias"), el("th", { scope: "col" }, "more"), el("th", { scope: "col" }, "nodes"))), el("tbody", {}, ...rows))]);
}

// ---- how fresh it is ----
const stateOf = kind => status?.sources.find(s => s.kind === kind)?.state;
function empty(kind, none, filtered) {
  const source = status?.sources.find(s => s.kind === kind);
  if (source?.state === "forbidden") return `You may not list ${kind}: ${source.message}`;
  if (!everReady || !source || source.state === "reading") return "Reading …";
  return words.length > 0 && items[{ pcinodes: "node", passthroughclaims: "claim", pcialiases: "alias" }[kind]].size > 0 ? filtered : none;
}
let said = "", noticed = "";
function drawConnection() {
  const now = Date.now(), notices = [];
  let mark = "●", css = "free", word = "Live", old = false;
  if (lostPlugin != null) {
    [mark, css, word, old] = ["✕", "bad", everReady ? "Not live" : "Connecting …", everReady];
    if (everReady) notices.push(["bad", `kubectl pci ui doesn't answer: it has ended, or is held up. What is shown is of ${clock(heard)} (${lasted((now - heard) / 1000)} ago). Trying again.`]);
  } else if (status?.lostSince) {
    const since = Date.parse(status.lostSince);
    [mark, css, word, old] = ["✕", "bad", "Not live", true];
    notices.push(["bad", `The API server doesn't answer: ${status.message}. What is shown is of ${clock(since)} (${lasted((Date.parse(status.now) - since) / 1000 + (now - told) / 1000)} ago).`]);
  } else if (status) {
    const behind = status.sources.filter(s => s.state === "behind");
    if (behind.length > 0) [mark, css, word] = ["◐", "moving", "Catching up"];
    for (const s of behind) notices.push(["", `The watch of ${s.kind} is being taken up again: ${s.message}`]);
    if (!everReady || status.sources.some(s => s.state === "reading" && !s.message)) [mark, css, word] = ["◐", "moving", "Reading …"];
  } else [mark, css, word] = ["◐", "moving", "Connecting …"];
  for (const s of status?.sources ?? []) {
    if (s.state === "forbidden" && s.kind !== "pods") notices.push(["", `Not shown, since you may not list ${s.kind}: ${s.message}`]);
    else if (s.message && (s.state === "live" || s.state === "reading")) notices.push(["", `${s.kind}: ${s.message}`]);
  }
  if (status?.namespaceReason) notices.push(["", `Claims of namespace ${status.namespace} alone: ${status.namespaceReason}`]);
  document.body.classList.toggle("old", old);
  if (word !== said) { said = word; $("connection").replaceChildren(span(css, mark), " " + word); }
  const all = JSON.stringify(notices);
  if (all !== noticed) replace($("notices"), notices.map(([css, text]) => el("p", { class: ("notice " + css).trim() }, text)));
  noticed = all;
  $("server").textContent = status ? status.server.replace(/^https?:\/\//, "") : "";
}

// ---- drawing ----
// What stays is not touched: it keeps focus and what is opened in it.
function replace(parent, children) {
  const kept = new Set(children);
  for (const child of [...parent.childNodes]) if (!kept.has(child)) child.remove();
  children.forEach((child, i) => { if (parent.childNodes[i] !== child) parent.insertBefore(child, parent.childNodes[i] ?? null); });
}
function draw() {
  awaited = false;
  const focus = document.activeElement, key = focus?.dataset?.focus, href = focus?.getAttribute?.("href");
  const all = changed.has("all"), kinds = new Set([...changed].map(c => c.split("/")[0]));
  if (all || kinds.has("node") || kinds.has("claim")) drawNodes();
  if (all || kinds.has("claim") || kinds.has("node")) drawClaims();
  if (all || kinds.has("alias")) drawAliases();
  changed.clear();
  drawConnection();
  if (focus?.isConnected && focus !== document.activeElement) focus.focus({ preventScroll: true });
  else if (focus && !focus.isConnected) {
    const again = key ? [...document.querySelectorAll("[data-focus]")].find(e => e.dataset.focus === key) : href ? [...document.querySelectorAll("a")].find(a => a.getAttribute("href") === href) : null;
    again?.focus({ preventScroll: true });
  }
}
function later(what) {
  changed.add(what);
  if (!awaited) { awaited = true; requestAnimationFrame(draw); }
}

// ---- what is told ----
let source = null, fresh = null;
function connect() {
  source?.close();
  source = new EventSource("events");
  source.addEventListener("begin", () => { fresh = new Set(); alive(); });
  for (const kind of ["node", "claim", "alias"])
    source.addEventListener(kind, e => {
      const { key, value } = JSON.parse(e.data);
      const isNew = !items[kind].has(key);
      items[kind].set(key, value);
      fresh?.add(`${kind}/${key}`);
      // Whether a device's claim is a link depends on the claim.
      if (kind === "claim" && isNew) for (const [name, card] of items.node) if (card.devices.some(d => d.claim === key)) changed.add("node/" + name);
      later(`${kind}/${key}`);
      alive();
    });
  source.addEventListener("gone", e => { const { key, value } = JSON.parse(e.data); items[value].delete(key); answers.delete(key); later(`${value}/${key}`); alive(); });
  source.addEventListener("status", e => { const before = JSON.stringify(status?.sources); status = JSON.parse(e.data).value; told = Date.now(); if (JSON.stringify(status.sources) !== before) later("all"); alive(); });
  source.addEventListener("ready", () => {
    // What was not told again is not there any more.
    for (const kind of Object.keys(items)) for (const key of [...items[kind].keys()]) if (!fresh.has(`${kind}/${key}`)) items[kind].delete(key);
    fresh = null;
    everReady = true;
    later("all");
    alive();
  });
  source.onerror = () => lost();
}
function alive() {
  heard = Date.now();
  if (lostPlugin != null) lostPlugin = null;
  later("status");
}
function lost() {
  lostPlugin ??= Date.now();
  drawConnection();
}
setInterval(() => {
  if (heard > 0 && Date.now() - heard > SILENCE && lostPlugin == null) lost();
  // A browser tries again by itself, but not after every kind of failure.
  if (lostPlugin != null && (source.readyState === EventSource.CLOSED || Date.now() - lostPlugin > SILENCE)) { lostPlugin = Date.now(); connect(); }
  for (const time of document.querySelectorAll("time")) { const age = ageOf(time.dateTime); if (time.textContent !== age) time.textContent = age; }
  drawConnection();
}, 1000);

// ---- what a person does ----
const filter = $("filter");
filter.addEventListener("input", () => { words = filter.value.toLowerCase().split(/\s+/).filter(Boolean); later("all"); });
function openNode(name) {
  opened.set("node/" + name, true);
  changed.add("node/" + name);
  drawNodes();
  const summary = [...document.querySelectorAll("#node-list summary")].find(s => s.dataset.focus === "node/" + name);
  summary?.scrollIntoView({ block: "center" });
  summary?.focus({ preventScroll: true });
}
document.addEventListener("click", e => {
  const to = e.target.closest?.("a[data-node]");
  if (to) { e.preventDefault(); openNode(to.dataset.node); }
});
document.addEventListener("keydown", e => {
  if (e.ctrlKey || e.altKey || e.metaKey) return;
  if (e.key === "/" && document.activeElement !== filter) { e.preventDefault(); filter.focus(); filter.select(); return; }
  if (e.key === "Escape" && document.activeElement === filter && filter.value) { filter.value = ""; filter.dispatchEvent(new Event("input")); return; }
  const at = document.activeElement;
  if (e.key === "ArrowDown" && at === filter) { const first = document.querySelector("#node-list summary"); if (first) { e.preventDefault(); first.focus(); } return; }
  if (at?.tagName !== "SUMMARY") return;
  const details = at.parentElement;
  if ((e.key === "ArrowRight" && !details.open) || (e.key === "ArrowLeft" && details.open)) { e.preventDefault(); at.click(); return; }
  if (e.key === "ArrowLeft") { const above = details.parentElement.closest("details")?.firstElementChild; if (above) { e.preventDefault(); above.focus(); } return; }
  if (e.key !== "ArrowDown" && e.key !== "ArrowUp") return;
  const all = [...at.closest("section").querySelectorAll("summary")].filter(s => s.checkVisibility());
  const next = all[all.indexOf(at) + (e.key === "ArrowDown" ? 1 : -1)];
  if (next) { e.preventDefault(); next.focus(); }
});
connect();
