// What the page says: numbers, times and sentences as a person reads them. Pure: no document, no clock.

const counted = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clocked = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const shortly = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const dated = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const minuted = new Intl.DateTimeFormat("en-GB", {
  day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit",
});

export const NOTHING = "–";

const known = (value, write) => (value === null || value === undefined ? NOTHING : write(value));

export const count = (value) => known(value, (n) => counted.format(n));
export const short = (value) => known(value, (n) => compact.format(n));
export const share = (value) => known(value, (p) => `${Math.round(100 * p)}%`);
export const ratio = (value) => known(value, (x) => x.toFixed(3));
export const nats = (value) => known(value, (x) => x.toFixed(4));
export const signed = (value, digits) => known(value, (x) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(digits)}`);
/** A score in two digits, cut and not rounded, so that none seems to have reached the next category. */
export const score = (value) => known(value, (p) => (Math.floor(100 * p + 1e-9) / 100).toFixed(2));
export const seconds = (value) => known(value, (s) => `${s < 10 ? s.toFixed(1) : counted.format(s)} s`);
/** Milliseconds; below zero, which only clocks that differ make of a latency, nothing is known. */
export const milliseconds = (value) => known(value < 0 ? null : value, (ms) => `${ms < 10 ? ms.toFixed(1) : counted.format(ms)} ms`);
export const clock = (at) => known(at, (s) => clocked.format(s * 1000));
export const hour = (at) => known(at, (s) => shortly.format(s * 1000));
export const day = (at) => known(at, (s) => dated.format(s * 1000));
export const moment = (at) => known(at, (s) => minuted.format(s * 1000));

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** How long ago, in the largest unit that fits. */
export function age(s) {
  if (s < 90) return plural(Math.floor(s), "second");
  if (s < 5400) return plural(Math.round(s / 60), "minute");
  return plural(Math.round(s / 3600), "hour");
}

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
export const version = (n) => (n ? `version ${n}` : "the fallback");

export const STATES = {
  connecting: "Connecting",
  starting: "Starting",
  catching_up: "Catching up",
  live: "Live",
  lost: "Broker lost",
  ended: "Ended",
  away: "No connection",
};

// --------------------------------------------------------------------------------------------------------- models

export const MODELS = {
  knowledge: {
    title: "Knowledge",
    about: "Will the next answer be right, and how long will it take?",
    fallback: "LNIRT, an item response model that needs no training",
    judged: "answers",
  },
  risk: {
    title: "Risk",
    about: "Who may fail the course or leave it?",
    fallback: "a formula with weights of ours, learned from no data",
    judged: "weeks of users",
  },
};

const TRIGGERS = {
  answers: "enough new answers had come",
  minutes: "it was time",
  drift: "drift was detected",
  hand: "somebody asked for it",
};

/** Why an update began, as a clause, or nothing. */
export const because = (trigger) => (trigger in TRIGGERS ? `because ${TRIGGERS[trigger]}` : "");

/** What the users hear of a version on trial. */
export const heard = (portion) => (portion > 0 ? `it serves ${share(portion)} of the users` : "it predicts, and nobody hears it");

/** What happened to a model, as a heading, and how it went: `good`, `bad` or `plain`. */
export function happened(entry) {
  const it = capital(version(entry.version));
  const other = version(entry.against ?? entry.previous);
  switch (entry.what) {
    case "update_started":
      return [`Learning of ${version(entry.version)} began`, "plain"];
    case "challenger_started":
      return [`${it} went on trial beside ${other}`, "plain"];
    case "promoted":
      return [`${it} was promoted over ${other}`, "good"];
    case "kept_out":
      return [`${it} was kept out, ${other} goes on`, "out"];
    case "candidate_dropped":
      return [`${it} was given up`, "out"];
    case "rolled_back":
      return [`${it} was taken back, ${other} serves again`, "bad"];
    case "swapped":
      return [`${it} went live`, "good"];
    case "refused":
      return [`A worker refused ${version(entry.version)}`, "bad"];
    case "drift":
      return ["Drift: what comes in is no longer what it was", "bad"];
    default:
      return [capital(String(entry.what).replaceAll("_", " ")), "plain"];
  }
}

/** The sentence below the heading, or nothing. */
export function told(entry) {
  const parts = [];
  if (entry.what === "update_started") {
    if (entry.answers) parts.push(`from ${count(entry.answers)} ${entry.judged}`);
    parts.push(because(entry.trigger ?? entry.reason));
  } else if (entry.what === "challenger_started") {
    if (entry.share !== undefined && entry.share !== null) parts.push(heard(entry.share));
  }
  if (entry.reason && !(entry.what === "update_started" && entry.reason in TRIGGERS)) parts.push(entry.reason);
  return capital(parts.filter(Boolean).join(", "));
}

// ----------------------------------------------------------------------------------------------------------- risk

const FEATURES = {
  present_rate: (v) => `${share(v)} of lectures attended`,
  absent_rate: (v) => `${share(v)} of lectures missed without excuse`,
  late_rate: (v) => `late for ${share(v)} of lectures`,
  excused_rate: (v) => `${share(v)} of lectures missed with excuse`,
  absent_rate_week: (v) => `${share(v)} of this week’s lectures missed without excuse`,
  absence_trend: (v) => (v < 0 ? "misses fewer lectures than before" : v > 0 ? "misses more lectures than before" : "misses as many lectures as before"),
  absence_streak: (v) => `${plural(v, "lecture")} missed in a row`,
  presence_streak: (v) => `${plural(v, "lecture")} attended in a row`,
  lectures_week: (v) => `${plural(v, "lecture")} this week`,
  days_since_seen: (v) => (v === 0 ? "seen today" : `last seen ${plural(v, "day")} ago`),
  active_days: (v) => `active on ${plural(v, "day")} this week`,
  answers_week: (v) => `${plural(Math.round(Math.expm1(v)), "answer")} this week`,
  success_rate: (v) => `${share(v)} of answers right`,
  activity_trend: (v) => (v < 0 ? "less active than before" : v > 0 ? "more active than before" : "as active as before"),
  grade_mean: (v) => `mean grade ${share(v)}`,
  grade_weighted_mean: (v) => `weighted mean grade ${share(v)}`,
  grade_latest: (v) => `latest grade ${share(v)}`,
  grade_trend: (v) => (v < 0 ? "latest grade below the own mean" : v > 0 ? "latest grade above the own mean" : "latest grade as the own mean"),
  grade_spread: (v) => `grades spread by ${share(v)}`,
  handed_in: (v) => `${plural(v, "piece")} of work handed in`,
  handed_in_week: (v) => `${plural(v, "piece")} of work handed in this week`,
  missing: (v) => `${plural(v, "piece")} of work overdue`,
  missing_week: (v) => `${plural(v, "piece")} of work fell overdue this week`,
  weight_missing: (v) => `work worth ${share(v)} of the course overdue`,
  late_share: (v) => `${share(v)} of work handed in late`,
  days_late_mean: (v) => lateness("work comes", v, "on average"),
  days_late_latest: (v) => lateness("the latest work came", v, ""),
  course_graded: (v) => `${share(v)} of the course graded`,
  days_since_work: (v) => (v === 0 ? "handed in work today" : `handed in work ${plural(v, "day")} ago`),
  minor_week: (v) => `${plural(v, "minor incident")} this week`,
  moderate_week: (v) => `${plural(v, "moderate incident")} this week`,
  major_week: (v) => `${plural(v, "major incident")} this week`,
  minor: (v) => plural(v, "minor incident"),
  moderate: (v) => plural(v, "moderate incident"),
  major: (v) => plural(v, "major incident"),
  severity_recent: (v) => (v === 0 ? "no incidents in three weeks" : `incidents of ${plural(v, "point")} in three weeks`),
  severity_trend: (v) => (v < 0 ? "fewer incidents than before" : v > 0 ? "more incidents than before" : "as many incidents as before"),
  days_since_incident: (v) => `latest incident ${plural(v, "day")} ago`,
  worst_severity: (v) => `worst incident: ${["none", "minor", "moderate", "major"][Math.round(v)] ?? v}`,
  weeks_with_incidents: (v) => `incidents in ${plural(v, "week")}`,
  sanctions: (v) => plural(v, "sanction"),
  sanctions_week: (v) => `${plural(v, "sanction")} this week`,
  attempts: (v) => `${plural(v, "attempt")} before`,
  credits: (v) => `${plural(v, "credit")} taken`,
  course_day: (v) => `day ${count(v)} of the course`,
  enrolled_before: (v) => (v < 0 ? `enrolled ${plural(-v, "day")} after the start` : `enrolled ${plural(v, "day")} before the start`),
};

/** Where features that count end: what is more is told as so much. As `stream.models.weekly` declares them. */
export const ENDS = {
  days_since_seen: 70, days_since_work: 70, days_since_incident: 70, days_late_mean: 70, days_late_latest: 70,
  absence_streak: 100, presence_streak: 100, answers_week: 7,
  lectures_week: 255, handed_in_week: 255, missing_week: 255, minor_week: 255, moderate_week: 255, major_week: 255, sanctions_week: 255,
  handed_in: 1000, missing: 1000, minor: 1000, moderate: 1000, major: 1000, severity_recent: 1000, sanctions: 1000,
  course_day: 1000, enrolled_before: 1000,
};

function lateness(what, days, when) {
  const how = days === 0 ? "on time" : `${Math.abs(days).toFixed(1).replace(/\.0$/, "")} days ${days < 0 ? "early" : "late"}`;
  return `${what} ${how} ${when}`.trim();
}

export const humanised = (name) => String(name).replaceAll("_", " ").replace("=", ": ");

/** A feature with its value, as a person reads it. */
export function feature(name, value) {
  if (value === null || value === undefined) return humanised(name);
  if (Object.hasOwn(FEATURES, name)) return FEATURES[name](value) + (Math.abs(value) >= ENDS[name] ? " or more" : "");
  return `${humanised(name)} ${Number(value.toFixed(2))}`;
}

export const REASONS = {
  academics: "after a record of the school",
  first_interaction_of_day: "at the first activity of a day",
  week_closed: "when a week was over",
};

// --------------------------------------------------------------------------------------------------- dead letters

/** A code as words; the code itself is shown beside them. */
export const deadLetter = (code) => capital(humanised(code));
