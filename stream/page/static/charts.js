// Small SVG charts: lines over time, a reliability diagram, one user's path. They draw in CSS pixels, and again when
// their width changes. Colours and strokes stand in page.css.

const SVG = "http://www.w3.org/2000/svg";

/** An element of SVG; attributes by name, text as text. */
function shape(name, attributes = {}, text = null) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== null) node.textContent = text;
  return node;
}

const round = (x) => Math.round(x * 10) / 10;
const isNumber = (x) => typeof x === "number" && Number.isFinite(x);

// ----------------------------------------------------------------------------------------------------------- axes

/** About `wanted` round numbers that cover low to high. */
export function ticks(low, high, wanted) {
  const span = high - low || Math.abs(high) || 1;
  const power = 10 ** Math.floor(Math.log10(span / wanted));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => span / s <= wanted) ?? 10 * power;
  const first = Math.floor(low / step + 1e-9);
  const last = Math.max(Math.ceil(high / step - 1e-9), first + 1);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800];

/** Round moments between two, at most `wanted`, and whether their seconds matter. */
export function timeTicks(from, to, wanted) {
  const step = STEPS_S.find((s) => (to - from) / s <= wanted) ?? STEPS_S.at(-1);
  const zone = new Date(to * 1000).getTimezoneOffset() * 60; // round in the reader's time
  const first = Math.ceil((from - zone) / step) * step + zone;
  const found = [];
  for (let at = first; at <= to; at += step) found.push(at);
  return { found, isFine: step < 60 };
}

const path = (points) => {
  let text = "";
  let isPen = false;
  for (const [x, y] of points) {
    if (y === null) {
      isPen = false;
    } else {
      text += `${isPen ? "L" : "M"}${round(x)} ${round(y)}`;
      isPen = true;
    }
  }
  return text;
};

// ---------------------------------------------------------------------------------------------------------- charts

/** What all charts share: a figure, its SVG, and drawing again when the width changes. */
class Chart {
  constructor(figure, height) {
    this.figure = figure;
    this.height = height;
    this.svg = shape("svg", { role: "img", height });
    this.svg.setAttribute("aria-labelledby", `${figure.id}-title`);
    this.svg.setAttribute("aria-describedby", `${figure.id}-text`);
    figure.append(this.svg);
    this.summary = figure.querySelector(`#${figure.id}-text`);
    this.data = null;
    this.width = 0;
    new ResizeObserver(() => {
      const width = Math.floor(figure.clientWidth);
      if (width && width !== this.width) {
        this.width = width;
        if (this.data) this.draw();
      }
    }).observe(figure);
  }

  show(data) {
    this.data = data;
    this.width ||= Math.floor(this.figure.clientWidth);
    if (this.width) this.draw();
  }

  fill(nodes) {
    this.svg.setAttribute("width", this.width);
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.svg.replaceChildren(...nodes);
  }

  /** Say what is drawn, for who does not see it; what is said of an empty chart everybody sees. */
  describe(text, isEmpty = false) {
    if (this.summary.textContent !== text) this.summary.textContent = text;
    this.summary.className = isEmpty ? "empty" : "visually-hidden";
  }
}

const TOP = 22;
const BOTTOM = 24;
const RIGHT = 10;

/**
 * Lines over time, with a marked moment for each swap.
 *
 * Data: `times`, epoch seconds; `lines`, `[{name, className, values}]`; `marks`, `[{at, label}]`; `low` and `high` that
 * the axis covers at least; `format` of values, `clock` of moments; `empty`, what stands there without any value.
 */
export class Lines extends Chart {
  constructor(figure, height) {
    super(figure, height);
    this.legend = figure.querySelector(".legend");
    this.pointed = null;
    this.svg.addEventListener("pointermove", (event) => this.point(event.clientX - this.svg.getBoundingClientRect().left));
    this.svg.addEventListener("pointerleave", () => this.point(null));
  }

  point(x) {
    this.pointed = x;
    if (this.data && this.width) this.draw();
  }

  draw() {
    const { times, lines, marks, low, high, format, clock, empty } = this.data;
    const values = lines.flatMap((line) => line.values).filter(isNumber);
    const bottom = this.height - BOTTOM;
    if (!values.length) {
      this.name(null);
      this.describe(empty, true);
      this.fill([shape("line", { class: "axis", x1: 0, x2: this.width, y1: bottom, y2: bottom })]);
      return;
    }
    const rows = ticks(low ?? lowest(values), Math.max(high ?? -Infinity, ...values), 4);
    const labels = rows.map(format);
    const left = 10 + 6.6 * Math.max(...labels.map((label) => label.length));
    const right = this.width - RIGHT;
    const to = times.at(-1);
    const from = Math.min(times[0], to - 20);
    const x = (at) => left + ((at - from) / (to - from)) * (right - left);
    const y = (value) => bottom - (Math.max(value - rows[0], 0) / (rows.at(-1) - rows[0])) * (bottom - TOP);
    const nodes = rows.flatMap((value, i) => [
      shape("line", { class: i ? "grid" : "axis", x1: left, x2: right, y1: y(value), y2: y(value) }),
      shape("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, labels[i]),
    ]);
    const { found, isFine } = timeTicks(from, to, Math.max(2, Math.floor((right - left) / 84)));
    for (const at of found) {
      const anchor = x(at) > right - 24 ? "end" : x(at) < left + 16 ? "start" : "middle";
      nodes.push(shape("text", { x: x(at), y: this.height - 6, "text-anchor": anchor }, clock(at, isFine)));
    }
    let free = 0;
    for (const mark of marks.filter(({ at }) => at >= from && at <= to + 1)) {
      const place = Math.min(x(mark.at), right);
      const group = shape("g", { class: "swap" });
      group.append(shape("title", {}, `${clock(mark.at, true)}: ${mark.title}`));
      group.append(shape("line", { x1: place, x2: place, y1: TOP - 4, y2: bottom }));
      group.append(shape("path", { d: `M${round(place - 4)} ${TOP - 6}h8l-4 6z` }));
      const width = 6.4 * mark.label.length;
      const start = Math.min(Math.max(place - width / 2, 0), this.width - width);
      if (start >= free) {
        group.append(shape("text", { x: start, y: TOP - 9 }, mark.label));
        free = start + width + 5;
      }
      nodes.push(group);
    }
    for (const line of lines) {
      const points = line.values.map((value, i) => [x(times[i]), isNumber(value) ? y(value) : null]);
      nodes.push(shape("path", { class: `line ${line.className}`, d: path(points) }));
    }
    const at = this.pointed === null ? null : nearest(times.map(x), this.pointed);
    if (at !== null) {
      nodes.push(shape("line", { class: "pointer", x1: x(times[at]), x2: x(times[at]), y1: TOP, y2: bottom }));
      for (const line of lines.filter(({ values: all }) => isNumber(all[at]))) {
        nodes.push(shape("circle", { class: `dot ${line.className}`, cx: x(times[at]), cy: y(line.values[at]), r: 4 }));
      }
    }
    this.fill(nodes);
    this.name(at);
    this.describe(
      lines.map((line) => `${line.name}: ${extent(line.values, format)}.`).join(" ") +
        marks.map((mark) => ` ${clock(mark.at, true)}: ${mark.title}.`).join(""),
    );
  }

  /** Write the values pointed at, or the latest, into the legend. */
  name(at) {
    const { times, lines, format, clock } = this.data;
    const place = at ?? times.length - 1;
    const items = lines.toReversed().map((line) => {
      const item = document.createElement("li");
      item.className = line.className;
      const value = document.createElement("b");
      value.textContent = isNumber(line.values[place]) ? format(line.values[place]) : "–";
      item.append(line.name, " ", value);
      return item;
    });
    if (at !== null) {
      const when = document.createElement("li");
      when.className = "when";
      when.textContent = clock(times[at], true);
      items.push(when);
    }
    this.legend.replaceChildren(...items);
  }
}

/** Where an axis begins: at the least value, unless a few would take up half of it, as the first answers' AUC would. */
function lowest(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const [least, usual, most] = [sorted[0], sorted[Math.floor(sorted.length * 0.06)], sorted.at(-1)];
  return most - least > 2 * (most - usual) ? usual : least;
}

function extent(values, format) {
  const found = values.filter(isNumber);
  if (!found.length) return "nothing is known yet";
  const least = format(Math.min(...found));
  return `now ${format(found.at(-1))}, between ${least} and ${format(Math.max(...found))}`;
}

const nearest = (places, x) =>
  places.reduce((best, place, i) => (Math.abs(place - x) < Math.abs(places[best] - x) ? i : best), 0);

/** What was said against how often it came true, in ten bins, with the number of answers in each below. */
export class Reliability extends Chart {
  draw() {
    const { bins, share, count, empty } = this.data;
    const total = bins.reduce((sum, bin) => sum + bin.n, 0);
    const left = 42;
    const right = this.width - RIGHT;
    const strip = 34;
    const base = this.height - BOTTOM - 16;
    const bottom = base - strip - 20;
    const x = (p) => left + p * (right - left);
    const y = (p) => bottom - p * (bottom - 10);
    const nodes = [0, 0.25, 0.5, 0.75, 1].flatMap((p) => [
      shape("line", { class: p ? "grid" : "axis", x1: left, x2: right, y1: y(p), y2: y(p) }),
      shape("text", { x: left - 8, y: y(p) + 4, "text-anchor": "end" }, share(p)),
      shape("text", { x: x(p), y: base + 16, "text-anchor": p === 1 ? "end" : "middle" }, share(p)),
    ]);
    nodes.push(shape("line", { class: "ideal", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }));
    nodes.push(shape("text", { class: "name", x: (left + right) / 2, y: this.height - 4, "text-anchor": "middle" }, "said before the answer"));
    if (!total) {
      this.describe(empty, true);
      this.fill(nodes);
      return;
    }
    const most = Math.max(...bins.map((bin) => bin.n));
    const filled = bins.filter((bin) => bin.n && isNumber(bin.said) && isNumber(bin.right));
    for (const bin of bins.filter(({ n }) => n)) {
      const height = Math.max(1, (bin.n / most) * strip);
      const width = x(bin.to) - x(bin.from);
      nodes.push(shape("rect", { class: "bar", x: x(bin.from) + 1.5, y: base - height, width: width - 3, height }));
      const middle = x(bin.from) + width / 2;
      nodes.push(shape("text", { class: "count", x: middle, y: base - height - 3, "text-anchor": "middle" }, count(bin.n)));
    }
    nodes.push(shape("line", { class: "axis", x1: left, x2: right, y1: base, y2: base }));
    nodes.push(shape("path", { class: "line served", d: path(filled.map((bin) => [x(bin.said), y(bin.right)])) }));
    for (const bin of filled) {
      const dot = shape("circle", { class: "dot served", cx: x(bin.said), cy: y(bin.right), r: 2.5 + 4 * Math.sqrt(bin.n / most) });
      dot.append(shape("title", {}, `said ${share(bin.said)}, right ${share(bin.right)}, ${count(bin.n)} answers`));
      nodes.push(dot);
    }
    this.fill(nodes);
    this.describe(filled.map((bin) => `Said ${share(bin.said)}, right ${share(bin.right)}, of ${count(bin.n)}.`).join(" "));
  }
}

/** One user's answers: above what was said of each before it and what came, below how long it took and was to take. */
export class Path extends Chart {
  draw() {
    const { answers, share, seconds } = this.data;
    const left = 46;
    const right = this.width - RIGHT;
    const split = Math.round(this.height * 0.56);
    const low = { top: split + 34, bottom: this.height - BOTTOM };
    const step = (right - left) / Math.max(answers.length, 12);
    const x = (i) => left + (i + 0.5) * step;
    const y = (p) => split - p * (split - TOP);
    const nodes = [0, 0.5, 1].flatMap((p) => [
      shape("line", { class: p ? "grid" : "axis", x1: left, x2: right, y1: y(p), y2: y(p) }),
      shape("text", { x: left - 8, y: y(p) + 4, "text-anchor": "end" }, share(p)),
    ]);
    answers.forEach((answer, i) => {
      if (i && answer.version !== answers[i - 1].version) {
        const place = x(i) - step / 2;
        nodes.push(shape("line", { class: "change", x1: place, x2: place, y1: TOP - 4, y2: low.bottom }));
        nodes.push(shape("text", { x: Math.min(place, right - 20), y: TOP - 9, "text-anchor": "middle" }, answer.version ? `v${answer.version}` : "fallback"));
      }
    });
    const said = (name) => path(answers.map((answer, i) => [x(i), isNumber(answer[name]) ? y(answer[name]) : null]));
    nodes.push(shape("path", { class: "line fallback", d: said("p_fallback") }));
    nodes.push(shape("path", { class: "line served thin", d: said("p_before") }));
    const size = Math.max(2.5, Math.min(5, step * 0.4));
    answers.forEach((answer, i) => {
      if (!isNumber(answer.p_before)) return;
      const [cx, cy] = [round(x(i)), round(y(answer.p_before))];
      const mark = answer.correct
        ? shape("circle", { class: "right", cx, cy, r: size })
        : shape("path", { class: "wrong", d: `M${cx - size} ${cy - size}l${2 * size} ${2 * size}m0 ${-2 * size}l${-2 * size} ${2 * size}` });
      mark.append(shape("title", {}, `answer ${i + 1}: ${answer.correct ? "right" : "wrong"}, said ${share(answer.p_before)}`));
      nodes.push(mark);
    });
    const times = answers.flatMap((answer) => [answer.seconds, answer.expected_s]).filter((s) => isNumber(s) && s > 0);
    nodes.push(shape("text", { class: "name", x: left, y: low.top - 10 }, "seconds that it took (logarithmic)"));
    if (times.length) this.times(nodes, answers, times, { x, low, left, right, step, seconds });
    nodes.push(shape("line", { class: "axis", x1: left, x2: right, y1: low.bottom, y2: low.bottom }));
    nodes.push(shape("text", { x: left, y: this.height - 6 }, "oldest shown"));
    nodes.push(shape("text", { x: right, y: this.height - 6, "text-anchor": "end" }, "latest"));
    this.fill(nodes);
    const rights = answers.filter(({ correct }) => correct).length;
    this.describe(`${answers.length} answers, ${rights} of them right; the table below has each of them.`);
  }

  times(nodes, answers, times, { x, low, left, right, step, seconds }) {
    const least = Math.log(Math.min(...times) * 0.8);
    const most = Math.log(Math.max(...times) * 1.25);
    const y = (s) => low.bottom - ((Math.log(s) - least) / (most - least)) * (low.bottom - low.top);
    const rows = [0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000].filter((s) => Math.log(s) > least && Math.log(s) < most);
    for (const s of rows) {
      nodes.push(shape("line", { class: "grid", x1: left, x2: right, y1: y(s), y2: y(s) }));
      nodes.push(shape("text", { x: left - 8, y: y(s) + 4, "text-anchor": "end" }, seconds(s)));
    }
    const half = Math.max(1.5, step * 0.36);
    answers.forEach((answer, i) => {
      const [expected, took] = [answer.expected_s, answer.seconds].map((s) => (isNumber(s) && s > 0 ? y(s) : null));
      if (expected !== null && took !== null) {
        nodes.push(shape("line", { class: "between", x1: x(i), x2: x(i), y1: expected, y2: took }));
      }
      if (expected !== null) {
        nodes.push(shape("line", { class: "expected", x1: x(i) - half, x2: x(i) + half, y1: expected, y2: expected }));
      }
      if (took !== null) nodes.push(shape("circle", { class: "took", cx: x(i), cy: took, r: Math.max(1.8, Math.min(3.2, step * 0.3)) }));
    });
  }
}
