"""
Snapshots and users' paths as the page's server sends them, made up: one for each kind of picture.

Pure, and the same every time. What a snapshot holds is said by `stream.page`; these are what a browser is shown.
"""

import copy
import math
from random import Random
from typing import Any

Snapshot = dict[str, Any]

START_S = 1_772_359_200.0  # 2026-03-01 10:00 UTC
SKILLS = (
    *("fractions", "decimals", "percentages", "ratios", "expressions", "equations"),
    *("inequalities", "functions", "angles", "triangles", "area", "volume"),
)
HOSTILE = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>&amp;"
LONG = "d7f3" * 16


def empty() -> Snapshot:
    """Return what is shown before anything has come."""
    return {
        "at": START_S,
        "state": "starting",
        "note": None,
        "broker": "127.0.0.1:9092",
        "group": "learnerstream",
        "skipped": 0,
        "progress": None,
        "totals": dict.fromkeys(
            ("answers", "correctness", "time", "risk", "dead_letters", "fallbacks", "users"), 0
        ),
        "rate": {"answers_per_s": 0.0, "latency_p50_ms": None, "latency_p99_ms": None},
        "series": [],
        "swaps": [],
        "quality": {
            "window": 2_000, "n": 0, "auc": None, "logloss": None, "ece": None, "time_error_s": None,
            "auc_fallback": None, "logloss_fallback": None, "time_error_fallback_s": None,
            "calibration": [_bin(place, 0, None, None) for place in range(10)], "versions": [],
        },
        "models": [
            {"name": name, "serving": 0, "trial": None, "learning": None, "timeline": []}
            for name in ("knowledge", "risk")
        ],
        "heat": {"skills": [], "users": []},
        "risk": {"categories": {"Low": 0, "Medium": 0, "High": 0, "Critical": 0}, "users": []},
        "dead": [],
        "active": [],
    }  # fmt: skip


def early() -> Snapshot:
    """Return the first seconds: a few answers, nothing that is learned, one user."""
    snapshot = empty() | {
        "at": START_S + 3,
        "state": "catching_up",
        "progress": {"done": 7, "total": 20_000, "what": "answers"},
        "active": ["learner-0001"],
    }
    snapshot["totals"] |= {"answers": 7, "correctness": 7, "users": 1, "fallbacks": 14}
    snapshot["rate"]["answers_per_s"] = 2.33
    none = dict.fromkeys(("p50_ms", "p99_ms", "auc", "auc_fallback", "logloss", "logloss_fallback", "ece"))
    snapshot["series"] = [{"at": START_S + 2, "answers_per_s": 2.0} | none | {"auc": 1.0, "auc_fallback": 1.0}]
    snapshot["heat"] = {
        "skills": ["fractions"],
        "users": [{"user_id": "learner-0001", "answers": 7, "mastery": [0.512]}],
    }
    return snapshot


def rich(seed: int = 7) -> Snapshot:
    """Return a demo near its end: three swaps, a candidate that was kept out, users at risk, dead letters."""
    random = Random(seed)
    seconds = 150
    swap_s = {31: 2, 62: 4, 118: 6}
    snapshot = empty() | {
        "at": START_S + seconds,
        "state": "live",
        "progress": {"done": 17_312, "total": 20_000, "what": "answers"},
        "active": [f"learner-{n:04d}" for n in range(40, 52)],
    }
    snapshot["totals"] = {
        "answers": 17_312, "correctness": 17_312, "risk": 12_207, "dead_letters": 3,
        "fallbacks": 4_120, "users": 240,
    }  # fmt: skip
    snapshot["rate"] = {"answers_per_s": 221.4, "latency_p50_ms": 431.2, "latency_p99_ms": 1_285.4}
    snapshot["series"] = [_point(second, random) for second in range(seconds)]
    snapshot["swaps"] = [
        {"at": START_S + second + 0.4, "model": "knowledge", "version": version, "previous": previous}
        for (second, version), previous in zip(swap_s.items(), (None, 2, 4), strict=True)
    ] + [{"at": START_S + 101.2, "model": "risk", "version": 1, "previous": None}]
    snapshot["quality"] = {
        "window": 2_000, "n": 2_000, "auc": 0.71912, "logloss": 0.591, "ece": 0.0213, "time_error_s": 7.82,
        "auc_fallback": 0.64481, "logloss_fallback": 0.6382, "time_error_fallback_s": 8.31,
        "calibration": [
            _bin(place, n, (place + 0.52) / 10, (place + 0.52) / 10 + random.uniform(-0.05, 0.05))
            for place, n in enumerate((6, 41, 102, 187, 262, 341, 402, 371, 214, 74))
        ],
        "versions": [
            {"version": 4, "n": 1_309, "auc": 0.7188, "logloss": 0.5934, "ece": 0.0241, "time_error_s": 7.9},
            {"version": 6, "n": 691, "auc": 0.7221, "logloss": 0.5866, "ece": 0.0304, "time_error_s": 7.7},
        ],
    }  # fmt: skip
    snapshot["models"] = [_knowledge(swap_s), _risk_model()]
    snapshot["heat"] = {
        "skills": list(SKILLS),
        "users": [
            {
                "user_id": f"learner-{n:04d}",
                "answers": 40 + 3 * (n % 17),
                "mastery": [None if random.random() < 0.06 else random.betavariate(4, 2.6) for _ in SKILLS],
            }
            for n in range(40, 56)
        ],
    }
    snapshot["risk"] = {
        "categories": {"Low": 171, "Medium": 55, "High": 13, "Critical": 1},
        "users": [_at_risk(n, random) for n in range(12)],
    }
    snapshot["dead"] = [
        {
            "at": START_S + 90 + n, "reason": reason, "topic": "interactions", "partition": n, "offset": 1_204 + n,
            "detail": detail,
        }
        for n, (reason, detail) in enumerate((
            ("wrong_partition", "partition: expected 3 for key 'learner-1', found 1; set partitioner=murmur2_random"),
            ("bad_value", "score: expected at most max_score, 100.0, found 120.0"),
            ("not_json", "expected a JSON object, found 'hello'"),
        ))
    ]  # fmt: skip
    return snapshot


def hostile() -> Snapshot:
    """Return a picture in which every text that others choose tries to be markup, or is very long."""
    snapshot = rich()
    snapshot["note"] = f"read from {HOSTILE}"
    snapshot["broker"] = HOSTILE
    snapshot["heat"]["skills"] = [f"{skill} {HOSTILE}" for skill in SKILLS]
    for n, user in enumerate(snapshot["heat"]["users"]):
        user["user_id"] = f"{n}{HOSTILE}" if n % 2 else f"{n}{LONG}"
    for n, user in enumerate(snapshot["risk"]["users"]):
        user["user_id"] = f"{n}{HOSTILE}"
        user["factors"][0] = {"feature": f"education={HOSTILE}", "contribution": 0.4, "value": None}
    for model in snapshot["models"]:
        for entry in model["timeline"]:
            entry["reason"] = f"{LONG} {HOSTILE}"
    for letter in snapshot["dead"]:
        letter |= {"detail": HOSTILE * 3, "topic": HOSTILE}
    snapshot["active"] = [HOSTILE]
    return snapshot


def worse(snapshot: Snapshot) -> Snapshot:
    """Return the same picture as it looks while the broker is away."""
    return copy.deepcopy(snapshot) | {"state": "lost", "note": "The broker at 127.0.0.1:9092 does not answer."}


def path(user_id: str, answers: int = 60, seed: int = 3) -> dict[str, Any]:
    """Return one user's path, half of it by the fallback."""
    random = Random(seed)
    found = []
    for n in range(answers):
        p = min(max(0.45 + 0.3 * math.tanh(n / 30) + random.gauss(0, 0.12), 0.04), 0.97)
        skill = SKILLS[n % 4]
        found.append({
            "at": START_S - 86_400 * (answers - n) + 611 * n,
            "topic_id": skill,
            "item_id": f"{skill}-{n % 9:02d}",
            "skills": [skill] if n % 5 else [skill, SKILLS[n % 4 + 1]],
            "difficulty": ("easy", "medium", "hard", None)[n % 4],
            "correct": random.random() < p,
            "p_before": p,
            "p_fallback": min(max(p + random.gauss(0, 0.08), 0.02), 0.98),
            "seconds": None if n % 11 == 5 else round(math.exp(random.gauss(2.9, 0.5)), 1) + 0.01,
            "expected_s": round(math.exp(random.gauss(2.95, 0.2)), 1) + 0.01,
            "version": 0 if n < answers // 2 else 4,
        })  # fmt: skip
    return {
        "user_id": user_id,
        "answers": found,
        "mastery": {skill: random.betavariate(4, 2.6) for skill in SKILLS[:9]},
        "risk": _at_risk(3, random) | {"user_id": user_id},
        "forgotten": False,
    }


def _bin(place: int, n: int, said: float | None, right: float | None) -> dict[str, Any]:
    return {"from": place / 10, "to": (place + 1) / 10, "n": n, "said": said, "right": right}


def _point(second: int, random: Random) -> dict[str, Any]:
    learned = 0.075 * (1 - math.exp(-max(0, second - 31) / 35))
    base = 0.5 + 0.145 * (1 - math.exp(-second / 9))
    auc = base + learned + random.gauss(0, 0.002)
    fallback = base + random.gauss(0, 0.002)
    p50 = 410 + 40 * math.sin(second / 9) + random.gauss(0, 15)
    return {
        "at": START_S + second,
        "answers_per_s": 0.0 if second < 2 else 215 + 25 * math.sin(second / 5) + random.gauss(0, 9),
        "p50_ms": None if second < 2 else p50,
        "p99_ms": None if second < 2 else 2.6 * p50 + abs(random.gauss(0, 80)),
        "auc": None if second < 2 else auc,
        "auc_fallback": None if second < 2 else fallback,
        "logloss": None if second < 2 else 1.02 - 0.6 * auc,
        "logloss_fallback": None if second < 2 else 1.02 - 0.6 * fallback,
        "ece": None if second < 2 else 0.02 + 0.06 * math.exp(-second / 20),
    }


def _figures(n: int, logloss: float, auc: float) -> dict[str, Any]:
    return {"n": n, "auc": auc, "logloss": logloss, "ece": 0.0372, "time_error_s": 7.884}


def _knowledge(swap_s: dict[int, int]) -> dict[str, Any]:
    timeline = []
    against = None
    for second, version in swap_s.items():
        at = START_S + second
        timeline += [
            _entry(at - 20, "update_started", version, answers=900 + 30 * second, trigger="answers"),
            _entry(at - 9, "challenger_started", version, against=against, share=0.0),
            _entry(
                at - 1, "promoted", version, against=against, gain=0.0293, needed=0.0217, users=143,
                reason="its log loss is better at 95%: by 0.0293 a prediction, 0.0217 needed",
                figures={
                    "candidate": _figures(1_083, 0.5712, 0.7511), "champion": _figures(1_083, 0.6005, 0.728),
                    "fallback": _figures(1_083, 0.6351, 0.6572),
                },
            ),
            _entry(at + 0.4, "swapped", version, previous=against),
        ]  # fmt: skip
        against = version
    timeline.insert(8, _entry(
        START_S + 88, "kept_out", 5, against=4, gain=-0.0021, needed=0.0174, users=151,
        reason="its log loss will hardly be better at 95%: by -0.0021 a prediction, 0.0174 needed",
        figures={
            "candidate": _figures(1_250, 0.5899, 0.7192), "champion": _figures(1_250, 0.5878, 0.7203),
            "fallback": _figures(1_250, 0.6362, 0.6571),
        },
    ))  # fmt: skip
    return {
        "name": "knowledge",
        "serving": 6,
        "trial": {"version": 7, "share": 0.0, "since": START_S + 141},
        "learning": None,
        "timeline": timeline,
    }


def _risk_model() -> dict[str, Any]:
    return {
        "name": "risk",
        "serving": 1,
        "trial": None,
        "learning": {"version": 2, "since": START_S + 140, "answers": 2_400, "trigger": "answers"},
        "timeline": [
            _entry(START_S + 80, "update_started", 1, answers=2_000, trigger="answers"),
            _entry(START_S + 90, "challenger_started", 1, against=None, share=0.0),
            _entry(
                START_S + 100, "promoted", 1, against=None, gain=0.041, needed=0.032, users=88,
                reason="its log loss is better at 95%: by 0.0410 a prediction, 0.0320 needed",
                figures={
                    "candidate": _figures(801, 0.5123, 0.802), "champion": _figures(801, 0.5533, 0.771),
                    "fallback": _figures(801, 0.5533, 0.771),
                },
            ),
            _entry(START_S + 101.2, "swapped", 1, previous=None),
            _entry(
                START_S + 130, "rolled_back", 1, against=None,
                reason="over 1200 predictions its log loss was 0.652, before it 0.571: worse by 0.081",
            ),
        ],
    }  # fmt: skip


def _entry(at: float, what: str, version: int | None, **more: Any) -> dict[str, Any]:
    plain = dict.fromkeys(("against", "reason", "gain", "needed", "users", "figures"))
    return plain | {"at": at, "what": what, "version": version} | more


def _at_risk(n: int, random: Random) -> dict[str, Any]:
    score = 0.81 - 0.045 * n
    category = "Critical" if score >= 0.75 else "High" if score >= 0.5 else "Medium"
    factors = [
        {"feature": "absent_rate", "contribution": 0.9, "value": 0.5},
        {"feature": "missing", "contribution": 0.6 * (1 + n % 2), "value": 1.0 + n % 2},
        {"feature": "success_rate", "contribution": -0.2, "value": round(random.uniform(0.6, 0.9), 2)},
        {"feature": "education=A level", "contribution": 0.07, "value": None},
        {"feature": "days_since_seen", "contribution": 0.12, "value": 3.0},
    ]
    return {
        "user_id": f"learner-{101 + 7 * n:04d}",
        "score": score,
        "category": category,
        "before": ("Medium", None, category)[n % 3],
        "as_of": START_S - 3_600 * n,
        "version": n % 2,
        "reason": ("week_closed", "academics", "first_interaction_of_day")[n % 3],
        "factors": factors[: 3 + n % 3],
    }
