// The live page: takes whole snapshots from a stream of server-sent events and shows the latest one. What comes is
// somebody else's text (ids, skills, reasons): it goes into the document as text, never as markup.

import { Lines, Path, Reliability } from "./charts.js";
import * as words from "./words.js";

const AGE_SHOWN_S = 3; // a picture older than this says how old it is
const SILENT_S = 8; // the server sends once a second: a stream that is silent for longer is opened anew
const RETRY_S = 2;
const PATH_EVERY_S = 2; // between two looks at the chosen user's path

const by = (id) => document.getElementById(id);
const isCalm = matchMedia("(prefers-reduced-motion: reduce)");
const canHover = matchMedia("(hover: hover)");

// ------------------------------------------------------------------------------------------------------- document

/** Write text where it has changed. */
function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function hide(node, isHidden) {
  if (node.hidden !== isHidden) node.hidden = isHidden;
}

/** A new element, its class, and its text or children. */
function element(name, className, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const silent = (text) => element("span", "visually-hidden", text);
const fragment = (user) => `#user=${encodeURIComponent(user)}`;

/** A link to a user's path; where there is little room the middle of the id goes, for ids differ at their ends. */
function userLink(user) {
  const letters = [...user];
  const end = Math.max(letters.length - 4, 0);
  const link = element("a", "user", element("span", null, letters.slice(0, end).join("")), element("span", null, letters.slice(end).join("")));
  link.href = fragment(user);
  link.title = user;
  link.setAttribute("aria-label", user);
  return link;
}

/** Whether somebody is reading here, so that rows should stay where they are. */
const isHeld = (node) => (canHover.matches && node.matches(":hover")) || node.contains(document.activeElement);

/** Let `parent` have one child for each item, in their order; children are kept, and filled anew when items change. */
function list(parent, items, key, make) {
  const before = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  const after = items.map((item) => {
    const [name, content] = [String(key(item)), JSON.stringify(item)];
    const node = before.get(name) ?? element(parent.tagName === "TBODY" ? "tr" : "li");
    if (node.content !== content) {
      node.dataset.key = name;
      node.content = content;
      make(node, item);
    }
    return node;
  });
  const stay = new Set(after);
  for (const node of [...parent.children]) if (!stay.has(node)) node.remove(); // first: who stays need not move, and keeps the focus
  after.forEach((node, place) => {
    if (parent.children[place] !== node) parent.insertBefore(node, parent.children[place] ?? null);
  });
}

/** The first items in their order; while somebody reads, those that are on the screen, where they are. */
function settled(parent, items, key, most) {
  const byKey = new Map(items.map((item) => [String(key(item)), item]));
  const here = [...parent.children].map((node) => byKey.get(node.dataset.key)).filter(Boolean);
  return here.length && isHeld(parent) ? here : items.slice(0, most);
}

function cells(row, ...texts) {
  row.replaceChildren(...texts.map((text, place) => {
    const cell = element(place ? "td" : "th", null, text);
    if (!place) cell.scope = "row";
    return cell;
  }));
}

// ---------------------------------------------------------------------------------------------------------- state

const page = {
  connection: "connecting", // connecting, open or away
  latest: null, // the newest snapshot as it came, not read yet
  shown: null, // the snapshot on the screen
  receivedAt: 0, // when the newest came, by this machine's clock
  triedAt: 0, // when the stream was opened
  lostAt: 0,
  isPaused: false,
  isDrawing: false,
  measure: "auc",
  chosen: null, // the user whose path is shown
  isOwnChoice: false,
  isAllAtRisk: false,
};

const now = () => performance.now() / 1000;

function draw() {
  if (page.isDrawing) return;
  page.isDrawing = true;
  requestAnimationFrame(() => {
    page.isDrawing = false;
    if (page.latest !== null && !page.isPaused) {
      const text = page.latest;
      page.latest = null;
      page.shown = JSON.parse(text);
      show(page.shown);
    }
    showState();
  });
}

// --------------------------------------------------------------------------------------------------------- stream

let source = null;

function connect() {
  source?.close();
  page.triedAt = now();
  source = new EventSource("snapshots");
  source.onmessage = (event) => {
    page.connection = "open";
    page.receivedAt = now();
    page.latest = event.data;
    draw();
  };
  source.onerror = away; // the browser tries again by itself, but not after an answer such as 502
}

function away() {
  if (page.connection !== "away") page.lostAt = Date.now() / 1000;
  page.connection = "away";
  draw();
}

/** Open a stream anew that was closed, or has gone silent. */
function watch() {
  const patience = source.readyState === EventSource.CLOSED ? RETRY_S : SILENT_S;
  if (now() - Math.max(page.receivedAt, page.triedAt) > patience) {
    away();
    connect();
  }
  showState();
}

// ---------------------------------------------------------------------------------------------------------- header

function showState() {
  const { shown, connection } = page;
  const isEnded = shown?.state === "ended";
  const state = connection === "away" ? (isEnded ? "ended" : "away") : (shown?.state ?? "connecting");
  const node = by("state");
  if (node.dataset.state !== state) {
    node.dataset.state = state;
    write(by("state-text"), words.STATES[state] ?? words.capital(state));
    write(by("announcement"), words.STATES[state] ?? state);
    document.title = `${words.STATES[state] ?? state} · learnerstream`;
  }
  const isStale = connection === "away" || state === "lost";
  document.documentElement.classList.toggle("stale", isStale && !isEnded);
  document.documentElement.classList.toggle("paused", page.isPaused);
  showAge();
  showBanner(state);
}

function showAge() {
  const { shown } = page;
  if (!shown) return;
  const old = page.isPaused ? now() - page.pausedAt : now() - page.receivedAt;
  const isOld = old > AGE_SHOWN_S || page.connection === "away";
  const what = page.isPaused ? "paused at" : "as of";
  write(by("age"), `${what} ${words.clock(shown.at)}${isOld && shown.state !== "ended" ? `, ${words.age(old)} ago` : ""}`);
}

function showBanner(state) {
  const since = words.clock(page.lostAt);
  const last = page.shown ? ` What you see is of ${words.clock(page.shown.at)}.` : "";
  let text = words.capital(page.shown?.note ?? "");
  if (state === "away") {
    text = `The page’s server has not answered since ${since}.${last} It is asked again every few seconds.`;
  } else if (state === "ended" && page.connection === "away") {
    text = "The run has ended, and the page’s server with it. This is its last picture.";
  } else if (state === "lost" && !text) {
    text = `The broker cannot be reached.${last}`;
  }
  write(by("banner"), text);
  hide(by("banner"), !text);
}

function pause() {
  page.isPaused = !page.isPaused;
  page.pausedAt = page.receivedAt;
  write(by("pause"), page.isPaused ? "Resume" : "Pause");
  draw();
}

// ------------------------------------------------------------------------------------------------------- overview

function show(snapshot) {
  showOverview(snapshot);
  showQuality(snapshot);
  showModels(snapshot.models);
  showHeat(snapshot.heat);
  showRisk(snapshot);
  showTraffic(snapshot);
  showDead(snapshot);
  suggest(snapshot);
  arrive();
  askPath();
  const skipped = snapshot.skipped ? ` · ${words.plural(snapshot.skipped, "message")} passed over, as the page could not keep up` : "";
  write(by("foot"), `Broker ${snapshot.broker} · group ${snapshot.group} · all figures are of what stands on its topics${skipped}`);
}

function showOverview({ progress, totals, rate, quality, risk }) {
  hide(by("progress"), !progress);
  if (progress) {
    by("progress-bar").max = progress.total || 1;
    by("progress-bar").value = progress.done;
    write(by("progress-text"), `${words.count(progress.done)} of ${words.count(progress.total)} ${progress.what}`);
  }
  write(by("answers"), words.count(totals.answers));
  write(by("answers-more"), `${words.count(totals.fallbacks)} by the fallback`);
  write(by("rate"), words.count(rate.answers_per_s));
  write(by("rate-more"), "over the latest 10 s");
  write(by("latency"), words.milliseconds(rate.latency_p50_ms));
  write(by("latency-more"), `99% within ${words.milliseconds(rate.latency_p99_ms)}`);
  write(by("auc"), words.ratio(quality.auc));
  write(by("auc-more"), `fallback ${words.ratio(quality.auc_fallback)}`);
  write(by("user-count"), words.count(totals.users));
  const atRisk = risk.categories.High + risk.categories.Critical;
  write(by("user-more"), `${words.count(atRisk)} at high risk`);
  write(by("dead-count"), words.count(totals.dead_letters));
  write(by("dead-more"), totals.dead_letters ? "events put aside" : "none put aside");
  by("dead-count").classList.toggle("alarm", totals.dead_letters > 0);
}

// -------------------------------------------------------------------------------------------------------- quality

const live = new Lines(by("live"), 290);
const calibration = new Reliability(by("calibration"), 300);
const throughput = new Lines(by("throughput"), 190);
const delay = new Lines(by("delay"), 190);

const MEASURES = {
  auc: { fallback: "auc_fallback", format: words.ratio, note: "1 would know every answer, 0.5 is guessing" },
  logloss: { fallback: "logloss_fallback", format: words.ratio, note: "nats an answer, the lower the better; 0.693 is guessing" },
};

const onClock = (at, isFine) => (isFine ? words.clock(at) : words.hour(at));

function marksOf(swaps, names) {
  return swaps.filter((swap) => names.includes(swap.model)).map((swap) => ({
    at: swap.at,
    label: `${swap.model === "risk" ? "risk " : ""}${swap.version ? `v${swap.version}` : "fallback"}`,
    title: `${swap.model === "risk" ? "of risk, " : ""}${words.version(swap.version)} serves, before it ${words.version(swap.previous)}`,
  }));
}

function showQuality({ series, swaps, quality }) {
  const measure = MEASURES[page.measure];
  const over = quality.n ? `over the latest ${words.plural(quality.n, "answer")}; ` : "";
  write(by("live-note"), words.capital(over + measure.note));
  live.show({
    times: series.map(({ at }) => at),
    lines: [
      { name: "fallback", className: "fallback", values: series.map((point) => point[measure.fallback]) },
      { name: "served", className: "served", values: series.map((point) => point[page.measure]) },
    ],
    marks: marksOf(swaps, ["knowledge"]),
    format: measure.format,
    clock: onClock,
    empty: "The first answers have to come: some right, some wrong.",
  });
  calibration.show({ bins: quality.calibration, share: words.share, count: words.short, empty: "No answer has been judged yet." });

  const rows = quality.versions.map((found) => ({ ...found, name: found.version ? `version ${found.version}` : "fallback" }));
  const { n, auc, logloss, ece, time_error_s } = quality;
  rows.push({ name: "all served", n, auc, logloss, ece, time_error_s });
  rows.push({
    name: "fallback, on all", n, auc: quality.auc_fallback, logloss: quality.logloss_fallback, ece: null,
    time_error_s: quality.time_error_fallback_s,
  });
  write(by("versions-note"), `Over the latest ${words.plural(n, "answer")}`);
  hide(by("versions-note"), !n);
  hide(by("versions-scroll"), !n);
  hide(by("versions-empty"), n > 0);
  list(by("versions").tBodies[0], n ? rows : [], ({ name }) => name, (row, found) => {
    cells(row, found.name, words.count(found.n), words.ratio(found.auc), words.nats(found.logloss), words.ratio(found.ece), words.seconds(found.time_error_s));
  });
  if (by("bins").open) {
    list(by("bins").querySelector("tbody"), quality.calibration, ({ from }) => from, (row, bin) => {
      cells(row, `${words.share(bin.from)} and ${words.share(bin.to)}`, words.count(bin.n), words.share(bin.said), words.share(bin.right));
    });
  }
}

for (const button of document.querySelectorAll("[data-measure]")) {
  button.addEventListener("click", () => {
    page.measure = button.dataset.measure;
    for (const each of document.querySelectorAll("[data-measure]")) each.setAttribute("aria-pressed", each === button);
    if (page.shown) showQuality(page.shown);
  });
}

// --------------------------------------------------------------------------------------------------------- models

function showModels(models) {
  for (const model of models) {
    const id = `model-${model.name}`;
    const card = by(id) ?? by("model-list").appendChild(modelCard(id, model.name));
    const about = words.MODELS[model.name];
    write(card.querySelector(".serving"), model.serving ? `Version ${model.serving} serves` : "The fallback serves");
    write(card.querySelector(".meanwhile"), meanwhile(model) || (model.serving || !about ? "" : words.capital(about.fallback)));
    const entries = model.timeline.toReversed().map((entry) => ({ ...entry, judged: about?.judged ?? "answers" }));
    const timeline = card.querySelector(".timeline");
    const seen = new Map();
    for (const entry of entries.toReversed()) { // the same may be told twice, by two workers
      const name = [entry.at, entry.what, entry.version].join();
      seen.set(name, (seen.get(name) ?? 0) + 1);
      entry.key = `${name},${seen.get(name)}`;
    }
    list(timeline, entries, ({ key }) => key, fillEntry);
    hide(card.querySelector(".empty"), entries.length > 0);
    hide(card.querySelector(".scroll"), entries.length === 0);
  }
}

function modelCard(id, name) {
  const about = words.MODELS[name];
  const card = element("div", "card model");
  card.id = id;
  const title = element("h3", null, about?.title ?? name);
  title.id = `${id}-title`;
  const region = element("div", "scroll tall", element("ol", "timeline"));
  for (const [key, value] of Object.entries({ role: "region", tabindex: "0", "aria-label": `What happened to ${name}, the latest first` })) {
    region.setAttribute(key, value);
  }
  card.append(
    element("div", "title", title, element("p", "serving")), element("p", "note", about?.about ?? ""), element("p", "meanwhile"),
    element("p", "empty", "Nothing has been learned yet."), region,
  );
  return card;
}

function meanwhile({ trial, learning, name }) {
  const parts = [];
  if (trial) parts.push(`Version ${trial.version} is on trial since ${words.clock(trial.since)}: ${words.heard(trial.share)}.`);
  if (learning) {
    const from = learning.answers ? `, from ${words.count(learning.answers)} ${words.MODELS[name]?.judged ?? "answers"}` : "";
    const why = words.because(learning.trigger);
    parts.push(`Version ${learning.version} is being learned since ${words.clock(learning.since)}${from}${why && `, ${why}`}.`);
  }
  return parts.join(" ");
}

function fillEntry(node, entry) {
  const [heading, tone] = words.happened(entry);
  const text = words.told(entry);
  node.className = tone;
  const when = element("time", null, words.clock(entry.at));
  when.dateTime = new Date(entry.at * 1000).toISOString();
  node.replaceChildren(element("p", "what", element("span", null, heading), when));
  if (text) node.append(element("p", "why", text));
  if (typeof entry.needed === "number") node.append(gain(entry));
  if (entry.figures) node.append(figures(entry));
}

/** The gain of a candidate beside what was needed, as a bar and as text. */
function gain({ gain: won, needed, users, figures: found, judged }) {
  const parts = [`gain ${words.signed(won, 4)}`, `${words.nats(needed)} needed`];
  if (found?.candidate) parts.push(`${words.count(found.candidate.n)} ${judged}`);
  if (users) parts.push(words.plural(users, "user"));
  const bar = element("div", "gain-bar", element("i"), element("b"));
  bar.setAttribute("aria-hidden", "true");
  const most = Math.max(won, needed, 1e-9) * 1.15;
  const place = (value) => `${(100 * Math.max(value, 0)) / most}%`;
  bar.firstChild.style.width = place(won);
  bar.lastChild.style.left = place(needed);
  bar.classList.toggle("enough", won >= needed);
  return element("div", "gain", bar, element("p", "gain-text", parts.join(" · ")));
}

function figures({ figures: found, version, against }) {
  const head = element("tr", null, element("td"));
  const table = element("table", "figures small", element("caption", "visually-hidden", `What the gate measured of version ${version}`), element("thead", null, head), element("tbody"));
  for (const name of ["log loss", "AUC", "calib. error", "time error"]) {
    const cell = element("th", null, name);
    cell.scope = "col";
    head.append(cell);
  }
  const names = { candidate: `version ${version}`, champion: words.version(against), fallback: "the fallback" };
  for (const [name, title] of Object.entries(names)) {
    if (!found[name] || (name === "champion" && !against)) continue;
    const { logloss, auc, ece, time_error_s } = found[name];
    const row = table.tBodies[0].insertRow();
    cells(row, title, words.nats(logloss), words.ratio(auc), words.ratio(ece), words.seconds(time_error_s));
  }
  return table;
}

// ----------------------------------------------------------------------------------------------------------- heat

const STEPS = [25, 40, 50, 60, 75, 90]; // percent at which a colour ends; see page.css

const shade = (percent) => `m${STEPS.filter((limit) => percent >= limit).length}`;

/** A probability as a cell: the number is in it, the colour only helps. */
function paint(node, p) {
  node.className = p === null || p === undefined ? "unknown" : shade(Math.round(100 * p));
  node.textContent = p === null || p === undefined ? "·" : Math.round(100 * p);
}

function showHeat({ skills, users }) {
  const [table, body] = [by("heat"), by("heat").tBodies[0]];
  hide(by("heat-empty"), users.length > 0);
  hide(by("heat-scroll"), users.length === 0);
  hide(by("scale"), users.length === 0);
  const head = table.tHead.rows[0];
  if (head.content !== JSON.stringify(skills)) {
    head.content = JSON.stringify(skills);
    const corner = head.cells[0];
    head.replaceChildren(corner, ...skills.map((skill) => {
      const cell = element("th", null, element("span", null, skill));
      cell.scope = "col";
      cell.title = skill;
      return cell;
    }));
  }
  list(body, placed(body, users).map((user) => ({ ...user, isChosen: user.user_id === page.chosen })), ({ user_id }) => user_id, fillHeat);
}

/** Users in the rows that they have; who is new takes the place of who went. */
function placed(body, users) {
  const byId = new Map(users.map((user) => [user.user_id, user]));
  const rows = [...body.children].map((row) => byId.get(row.dataset.key) ?? null).slice(0, users.length);
  const there = new Set(rows.filter(Boolean).map(({ user_id }) => user_id));
  const fresh = users.filter(({ user_id }) => !there.has(user_id));
  const kept = rows.map((user) => user ?? fresh.shift());
  return [...kept, ...fresh].filter(Boolean);
}

function fillHeat(row, { user_id, answers, mastery, isChosen }) {
  if (row.dataset.user !== user_id) {
    row.dataset.user = user_id;
    const name = element("th", null, userLink(user_id));
    name.scope = "row";
    row.replaceChildren(name);
  }
  row.classList.toggle("chosen", isChosen);
  const link = row.querySelector("a");
  link.title = `${user_id}, ${words.plural(answers, "answer")}`;
  if (isChosen) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
  while (row.cells.length > mastery.length + 1) row.lastElementChild.remove();
  mastery.forEach((p, place) => paint(row.cells[place + 1] ?? row.insertCell(), p));
}

by("heat").addEventListener("click", (event) => {
  const row = event.target.closest("tbody tr");
  if (row && !event.target.closest("a")) location.hash = fragment(row.dataset.user);
});

by("scale").append(...[0, ...STEPS].map((from, place) => {
  const to = STEPS[place] === undefined ? 100 : STEPS[place] - 1;
  return element("li", `m${place}`, `${from}–${to}`);
}));

// ----------------------------------------------------------------------------------------------------------- risk

const CATEGORIES = ["Low", "Medium", "High", "Critical"];
const FEW_AT_RISK = 6;

function showRisk({ risk: { categories, users }, totals: { risk: total } }) {
  write(by("risk-count"), words.plural(total, "risk prediction"));
  const isAny = users.length > 0 || CATEGORIES.some((category) => categories[category]);
  hide(by("risk-empty"), isAny);
  hide(by("categories"), !isAny);
  hide(by("risk-note"), users.length === 0);
  if (isAny) {
    list(by("categories"), CATEGORIES.map((name) => ({ name, n: categories[name] ?? 0 })), ({ name }) => name, (node, { name, n }) => {
      node.className = n ? name.toLowerCase() : "nobody";
      node.replaceChildren(element("b", null, words.count(n)), " ", name);
      node.style.flexGrow = n;
    });
  }
  const few = settled(by("risks"), users, ({ user_id }) => user_id, page.isAllAtRisk ? users.length : FEW_AT_RISK);
  list(by("risks"), few, ({ user_id }) => user_id, (node, risk) => {
    const head = node.querySelector(".who") ?? element("p", "who", userLink(risk.user_id));
    node.replaceChildren(head, ...riskParts(risk));
  });
  hide(by("all-at-risk"), users.length <= FEW_AT_RISK);
  write(by("all-at-risk"), page.isAllAtRisk ? "Show fewer" : `Show all ${users.length}`);
}

by("all-at-risk").addEventListener("click", () => {
  page.isAllAtRisk = !page.isAllAtRisk;
  by("all-at-risk").setAttribute("aria-expanded", page.isAllAtRisk);
  if (page.shown) showRisk(page.shown);
});

/** Score and category, reasons, and where they come from. */
function riskParts({ score, category, before, factors, as_of, version, reason }) {
  const change = before && before !== category ? element("span", "before", `was ${before}`) : null;
  const meter = element("span", "meter", element("i"));
  meter.setAttribute("aria-hidden", "true");
  meter.firstChild.style.width = `${100 * score}%`;
  const verdict = element("p", "verdict", meter, element("b", null, words.score(score)), element("span", `category ${category.toLowerCase()}`, category), change);
  const reasons = element("ul", "reasons");
  for (const { feature, contribution, value } of factors) {
    const raises = contribution > 0;
    const item = element("li", raises ? "raises" : "lowers", silent(raises ? "raises it: " : "lowers it: "), words.feature(feature, value), " ");
    item.append(element("small", null, `(${words.signed(contribution, 1)})`));
    reasons.append(item);
  }
  if (!factors.length) reasons.append(element("li", "none", "little is known"));
  const by_ = version ? `version ${version}` : "the formula";
  const source = element("p", "source", `${words.capital(words.REASONS[reason] ?? words.humanised(reason))}, as of ${words.day(as_of)}, by ${by_}`);
  return [verdict, reasons, source];
}

// -------------------------------------------------------------------------------------------------------- traffic

function showTraffic({ series, swaps }) {
  const times = series.map(({ at }) => at);
  const marks = marksOf(swaps, ["knowledge", "risk"]);
  const lines = (...found) => found.map(([name, className, key]) => ({ name, className, values: series.map((point) => point[key]) }));
  const empty = "No answer has come yet.";
  throughput.show({ times, marks, lines: lines(["answers/s", "served", "answers_per_s"]), low: 0, high: 10, format: words.count, clock: onClock, empty });
  delay.show({
    times, marks, lines: lines(["99% within", "fallback", "p99_ms"], ["half within", "served", "p50_ms"]),
    low: 0, high: 10, format: words.count, clock: onClock, empty,
  });
  if (!by("numbers").open || isHeld(by("numbers").querySelector("table"))) return;
  list(by("numbers").querySelector("tbody"), series.toReversed(), ({ at }) => at, (row, point) => {
    cells(
      row, words.clock(point.at), words.count(point.answers_per_s), words.milliseconds(point.p50_ms), words.milliseconds(point.p99_ms),
      words.ratio(point.auc), words.ratio(point.auc_fallback), words.nats(point.logloss), words.nats(point.logloss_fallback), words.ratio(point.ece),
    );
  });
}

for (const id of ["numbers", "bins"]) {
  by(id).addEventListener("toggle", () => page.shown && show(page.shown));
}

function showDead({ dead, totals }) {
  hide(by("dead"), !totals.dead_letters);
  list(by("letters"), dead.toReversed(), ({ topic, partition, offset }) => `${topic}/${partition}/${offset}`, (node, letter) => {
    const place = `${letter.topic}, partition ${letter.partition}, offset ${letter.offset}`;
    node.replaceChildren(
      element("p", "what", element("span", null, words.deadLetter(letter.reason)), element("time", null, words.clock(letter.at))),
      element("p", "why", letter.detail), element("p", "source", place),
    );
  });
}

// ------------------------------------------------------------------------------------------------------- one user

const path = new Path(by("path"), 380);
const asking = { at: -Infinity, isOn: false, shown: null };

/** Users who can be chosen from, and one to begin with. */
function suggest({ active, heat, risk }) {
  const found = new Set([...active, ...heat.users.map(({ user_id }) => user_id), ...risk.users.map(({ user_id }) => user_id)]);
  const text = [...found].join("\n");
  if (by("known").content !== text && document.activeElement !== by("user")) {
    by("known").content = text;
    by("known").replaceChildren(...[...found].map((user) => {
      const option = element("option");
      option.value = user;
      return option;
    }));
  }
  const first = heat.users.find(({ answers }) => answers >= 8);
  if (page.chosen === null && first) choose(first.user_id, false);
}

function choose(user, isOwnChoice) {
  write(by("answers-title"), `Answers of ${user}, the latest first`);
  if (user === page.chosen) return;
  page.chosen = user;
  page.isOwnChoice = isOwnChoice;
  asking.at = -Infinity;
  asking.shown = null;
  showBody(false);
  write(by("path-title"), `Path of ${user}`);
  write(by("path-note"), "Asking …");
  if (page.shown) showHeat(page.shown.heat);
  askPath();
}

/** Ask for the chosen user's path, not too often, and show it where it has changed. */
async function askPath() {
  const user = page.chosen;
  if (user === null || page.isPaused && asking.shown !== null || asking.isOn || now() - asking.at < PATH_EVERY_S) return;
  asking.isOn = true;
  asking.at = now();
  try {
    const reply = await fetch(`users?id=${encodeURIComponent(user)}`, { cache: "no-store" });
    const text = await reply.text();
    if (user === page.chosen && !(page.isPaused && asking.shown !== null)) showReply(user, reply, text);
  } catch {
    if (user === page.chosen && asking.shown === null) write(by("path-note"), "The page’s server does not answer.");
  } finally {
    asking.isOn = false;
    if (user !== page.chosen) askPath();
  }
}

function showReply(user, reply, text) {
  if (asking.shown === text) return;
  const found = reply.ok ? JSON.parse(text) : null;
  asking.shown = text;
  if (!found || found.forgotten) {
    showBody(false);
    const nothing = `Nothing is known of ${user}: nothing came of this user, or it was erased.`;
    write(by("path-note"), found || reply.status === 404 ? nothing : `The page’s server answered with status ${reply.status}.`);
  } else {
    showBody(true);
    showPath(found);
  }
  arrive();
}

function showBody(isThere) {
  hide(by("path-body"), !isThere);
  hide(by("answers-card"), !isThere);
}

function showPath({ answers, mastery, risk }) {
  const right = answers.filter(({ correct }) => correct).length;
  const own = page.isOwnChoice ? "" : " Chosen by the page: choose another in the table, or type an id.";
  const said = answers.length ? `The latest ${words.plural(answers.length, "answer")}, ${words.count(right)} right.` : "No answer has come of this user.";
  write(by("path-note"), said + own);
  const skills = Object.entries(mastery).sort(([, a], [, b]) => a - b).map(([name, p]) => ({ name, p }));
  list(by("path-skills"), skills, ({ name }) => name, (node, { name, p }) => {
    const value = element("b");
    paint(value, p);
    node.replaceChildren(element("span", null, name), " ", value);
    node.title = name;
  });
  hide(by("path"), !answers.length);
  if (answers.length) path.show({ answers, share: words.share, seconds: words.seconds });
  const rows = answers.map((answer, place) => ({ ...answer, place })).toReversed();
  list(by("path-answers").tBodies[0], rows, ({ at, item_id, place }) => `${at}/${item_id}/${place}`, fillAnswer);
  hide(by("path-risk"), !risk);
  if (risk) by("path-risk-body").replaceChildren(...riskParts(risk));
}

function fillAnswer(row, answer) {
  const skills = answer.skills.length ? answer.skills.join(", ") : answer.topic_id;
  const more = [answer.item_id, answer.difficulty, words.moment(answer.at)].filter(Boolean).join(" · ");
  const came = element("span", answer.correct ? "right" : "wrong", answer.correct ? "right" : "wrong");
  cells(row, element("span", null, skills), words.share(answer.p_before), came, words.seconds(answer.expected_s), words.seconds(answer.seconds), answer.version ? `v${answer.version}` : "fallback");
  row.cells[0].append(element("small", null, more));
}

function readFragment() {
  if (!location.hash.startsWith("#user=")) return;
  let user = location.hash.slice("#user=".length);
  try {
    user = decodeURIComponent(user);
  } catch {
    // Somebody typed a percent sign: the text is meant as it is.
  }
  if (user) {
    choose(user, true);
    by("user").value = user;
  }
}

/** Go to the path, and say so to who does not see it. */
function goToPath(block, behavior) {
  by("path-title").focus({ preventScroll: true });
  by("path-card").scrollIntoView({ block, behavior });
}

/** Whoever has followed a link to a user is taken there once there is something, unless they went elsewhere before. */
let isToArrive = false;

function arrive() {
  if (!isToArrive || !page.shown || asking.shown === null) return;
  isToArrive = false;
  goToPath("start", "auto");
}

for (const name of ["keydown", "pointerdown", "wheel", "touchstart"]) {
  addEventListener(name, () => { isToArrive = false; }, { passive: true });
}

addEventListener("hashchange", () => {
  readFragment();
  if (location.hash.startsWith("#user=")) goToPath("nearest", isCalm.matches ? "auto" : "smooth");
});

by("choose").addEventListener("submit", (event) => {
  event.preventDefault();
  const user = by("user").value.trim();
  if (user) location.hash = fragment(user);
});

// ---------------------------------------------------------------------------------------------------------- start

by("pause").addEventListener("click", pause);

readFragment();
isToArrive = page.isOwnChoice;
connect();
setInterval(watch, 1000);
