// The state of a node, read every two seconds while somebody looks.

import { bar, clock, course, latencies } from "/plots.js";

const EVERY = 2000;
const KEY = "consilium-token";
const SHOWN = 12;
const get = (id) => document.getElementById(id);

let token = takeToken();
let paused = false;
let timer;

// A token in the address is for this page alone: it leaves the address, and so the history, at once.
function takeToken() {
  const found = /^#token=([\x21-\x7e]{32,256})$/.exec(location.hash);
  if (found) {
    sessionStorage.setItem(KEY, found[1]);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(KEY);
}

function make(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const text = (kind, words) => make("p", kind ? { class: kind } : {}, words);
const number = (value) => Number(value).toLocaleString();
const epsilon = (value) => (Math.ceil(value * 1000) / 1000).toFixed(3);

function fill(id, children, empty) {
  get(id).replaceChildren(...(children.length > 0 ? children : [make("li", { class: "none" }, empty)]));
}

function row(head, cells) {
  const made = cells.map(([label, value, kind]) =>
    make("td", { "data-label": label, ...(kind ? { class: kind } : {}) }, value));
  return make("tr", {}, make("th", { scope: "row" }, head), ...made);
}

function tasksOf(report) {
  return report.seats.flatMap((seat) => seat.tasks.map((task) => ({ seat, task })));
}

// A picture is as wide as its place, so that its letters keep their size.
function draw(place, picture) {
  place.replaceChildren(picture(Math.max(place.clientWidth, 240)));
}

function showReady(data) {
  const good = data.outlooks.every((one) => one.ready);
  const state = get("state");
  const words = good ? "Ready" : "Not ready";
  if (state.textContent !== words) state.textContent = words;
  state.className = good ? "state good" : "state bad";
  const supply = (one) => {
    const answers = one.answers_left === null ? "no budget" : `${number(one.answers_left)} more answers`;
    return `${number(one.bundles)} bundles at hand, ${answers}`;
  };
  const card = (one) => {
    const offer = data.offers.find((offer) => offer.task === one.task);
    return make("li", {}, make("h3", {}, one.task || "This node"), offer ? text("quiet", offer.title) : null,
      text(one.ready ? "good" : "bad", one.ready ? "Yes" : `No: ${one.obstacle}`),
      text("", one.ready ? supply(one) : one.reason));
  };
  const nothing = "This node asks and computes nothing; every compute party that it works for is connected.";
  fill("ready", data.outlooks.map(card), nothing);
}

function showBudgets(data) {
  const spent = new Map(tasksOf(data.report).map(({ task }) => [task.task, task]));
  const plots = [];
  const card = (line) => {
    const [first, now] = [line.points[0][1], line.points.at(-1)[1]];
    const sentence = `Task ${line.task}: the budget paid for ${number(first)} more answers at first, ` +
      `and pays for ${number(now)} now`;
    const place = make("div", { class: "plot" });
    plots.push(() => draw(place, (wide) => course(wide, line.points, data.now, sentence)));
    const task = spent.get(line.task);
    const loss = task && task.epsilon_spent !== null
      ? `epsilon ${epsilon(task.epsilon_spent)} of ${epsilon(task.epsilon_budget)} spent, at the owner who lost most`
      : null;
    const left = now === 0 ? text("bad", "Spent: no more answers") : text("", `${number(now)} more answers`);
    return make("li", {}, make("h3", {}, line.task), loss ? text("", loss) : null, left, place);
  };
  fill("budgets", data.courses.map(card), "No task with a budget was seen yet.");
  for (const plot of plots) plot();
}

function showPools(data) {
  const card = ({ seat, task }) => {
    const title = make("h3", {}, task.task);
    if (!task.pool) return make("li", {}, title, text("bad", "The compute parties agreed on none yet"));
    const { left, low, high, used } = task.pool;
    const refill = task.refill;
    const sentence = `${number(left)} bundles of ${number(high)}; refilled below ${number(low)}`;
    const more = [
      `${number(used)} used`,
      refill?.bundles_per_second ? `${number(Math.round(refill.bundles_per_second))} made in a second` : "",
      refill?.batch ? `making ${refill.batch[0]} of ${refill.batch[1]}` : "",
      refill?.bytes_on_disk ? `${(refill.bytes_on_disk / 1048576).toFixed(1)} MiB` : "",
      refill?.source ?? "",
    ];
    const faults = new Set([refill?.fault, seat.refill_fault].filter(Boolean));
    return make("li", {}, title, bar(left, low, high, sentence), text("", sentence),
      text("quiet", more.filter(Boolean).join(" · ")), ...[...faults].map((fault) => text("bad", fault)));
  };
  const there = (one) => one.bundles === null
    ? "Not known while it is not ready" : `${number(one.bundles)} bundles at the compute parties`;
  const theirs = (one) => make("li", {}, make("h3", {}, one.task), text("", there(one)));
  const mine = tasksOf(data.report);
  const cards = mine.length > 0 ? mine.map(card) : data.outlooks.filter((one) => one.task).map(theirs);
  fill("pools", cards, "This node has no pool.");
}

function quantile(sorted, part) {
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
}

function showQueries(data) {
  const times = data.queries.filter((one) => one.obstacle === null).map((one) => one.milliseconds);
  times.sort((a, b) => a - b);
  const refused = data.queries.length - times.length;
  const figure = (value, words) => make("span", {}, make("b", {}, value), ` ${words}`);
  const ms = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
  const figures = [figure(number(times.length), "answered"), figure(number(refused), "refused")];
  if (times.length > 0) {
    figures.push(figure(ms(quantile(times, 0.5)), "median"), figure(ms(quantile(times, 0.95)), "95 %"));
  }
  figures.push(make("span", { class: "quiet" }, "of the latest questions since the node started"));
  get("latency").replaceChildren(...figures);
  const sentence = `Time of the latest ${data.queries.length} questions; ${refused} were refused: crosses`;
  if (data.queries.length === 0) get("latency-plot").replaceChildren();
  else draw(get("latency-plot"), (wide) => latencies(wide, data.queries, data.now, sentence));
  const line = (one) => row(clock(one.at), [
    ["Task", one.task], ["This node", one.side === "client" ? "asked" : "computed"],
    ["Time", ms(one.milliseconds)], ["Outcome", one.obstacle ?? "answered", one.obstacle ? "bad" : "good"],
  ]);
  get("queries").replaceChildren(...data.queries.slice(-SHOWN).reverse().map(line));
}

function showMembers(data) {
  const held = (pair) => [[pair.zero, "party Zero"], [pair.one, "party One"], [pair.dealer, "dealer"]]
    .map(([who, seat]) => [who, `${seat} of ${pair.pair}`]);
  const heldBy = (name) => data.pairs.flatMap(held).filter(([who]) => who === name).map(([, seat]) => seat);
  const seats = (name) => heldBy(name).join(", ") || "–";
  const report = data.report;
  const own = row(`${report.name} (this node)`, [
    ["Roles", report.dealer ? "dealer" : "–"], ["Seat", seats(report.name)],
    ["Connection", report.listening.length > 0 ? "listens" : "dials only"], ["Round trip", "–"],
  ]);
  const line = (member) => row(member.name, [
    ["Roles", member.roles.join(", ")], ["Seat", seats(member.name)],
    ["Connection", member.connected ? (member.relay === null ? "up" : `up through ${member.relay}`) : member.fault ?? "none",
      member.connected ? "good" : member.fault ? "bad" : "quiet"],
    ["Round trip", member.round_trip_ms === null ? "–" : `${member.round_trip_ms.toFixed(1)} ms`],
  ]);
  get("members").replaceChildren(own, ...report.members.map(line));
}

const VERDICTS = {
  unasked: () => ["quiet", "Not asked yet", ""],
  accepted: (module) => ["good", "Accepted", `${module.shown}; until ${clock(module.valid_until, true)}`],
  unreachable: (module) => ["warn", "Unreachable", module.reason],
  refused: (module) => ["bad", "Evidence refused", module.reason],
};

function showNoise(data) {
  const module = (seat) => {
    const [name, body] = typeof seat.module === "string" ? [seat.module, {}] : Object.entries(seat.module)[0];
    const [kind, verdict, words] = (VERDICTS[name] ?? (() => ["bad", name, ""]))(body);
    const measured = body.measurement
      ? make("p", { class: "quiet" }, "measured: ", make("code", {}, body.measurement)) : null;
    const title = make("h3", {}, `Sampling module of ${seat.pair}`);
    return make("li", {}, title, text(kind, verdict), text("", words), measured);
  };
  const rule = (noise) => noise ? `noise: ${noise.rule}; ${number(noise.ahead)} drawn ahead` : "no noise";
  const task = ({ task }) => make("li", {}, make("h3", {}, task.task), text("", task.mechanism),
    text("quiet", rule(task.noise)), task.noise?.fault ? text("bad", task.noise.fault) : null);
  const offer = (offer) => make("li", {}, make("h3", {}, offer.task), text("", offer.release));
  const modules = data.report.seats.filter((seat) => seat.module !== null).map(module);
  const mine = tasksOf(data.report).map(task);
  const tasks = mine.length > 0 ? mine : data.offers.map(offer);
  fill("noise", [...modules, ...tasks], "This node sees no noise drawn.");
}

function showTroubles(data) {
  const span = (kind, words) => make("span", { class: kind }, words);
  const line = (one) => make("li", {}, span(one.level === "error" ? "bad" : "warn", one.level),
    ` ${clock(one.at, true)} ${one.message} `, span("quiet", one.target));
  fill("troubles", data.troubles.slice().reverse().map(line), "None since the node started.");
}

function show(data) {
  document.title = `${data.report.name} · Consilium`;
  get("name").textContent = data.report.name;
  get("about").textContent = `Consilium ${data.version}, ${data.report.peer}`;
  get("updated").textContent = `as of ${clock(data.now)}`;
  const parts = [showReady, showBudgets, showPools, showQueries, showMembers, showNoise, showTroubles];
  for (const part of parts) part(data);
}

function ask(words) {
  clearTimeout(timer);
  sessionStorage.removeItem(KEY);
  token = null;
  get("node").hidden = true;
  get("tools").hidden = true;
  get("login").hidden = false;
  get("state").textContent = "Not connected";
  get("state").className = "state";
  get("wrong").textContent = words;
  get("token").focus();
}

function away(words) {
  get("state").textContent = words;
  get("state").className = "state bad";
}

async function look() {
  clearTimeout(timer);
  if (!token || paused || document.hidden) return;
  const mine = token;
  try {
    const headers = { Authorization: `Bearer ${mine}` };
    const answer = await fetch("/api/overview", { headers, cache: "no-store", credentials: "omit" });
    if (mine !== token) return;
    if (answer.status === 401) return ask("The node does not know this token.");
    if (answer.ok) {
      const data = await answer.json();
      sessionStorage.setItem(KEY, mine);
      get("login").hidden = true;
      get("node").hidden = false;
      get("tools").hidden = false;
      show(data);
    } else away(`The node answered ${answer.status}`);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    away("The node does not answer");
  }
  timer = setTimeout(look, EVERY);
}

get("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token = get("token").value.trim();
  get("token").value = "";
  get("wrong").textContent = "";
  look();
});
get("forget").addEventListener("click", () => ask(""));
get("pause").addEventListener("click", () => {
  paused = !paused;
  get("pause").setAttribute("aria-pressed", String(paused));
  look();
});
document.addEventListener("visibilitychange", look);
addEventListener("hashchange", () => { token = takeToken(); look(); });

if (token) look();
else ask("");
