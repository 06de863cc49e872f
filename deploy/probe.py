#!/usr/bin/env python3
"""
Ask a health endpoint, print its sentence, and exit 0 if it answered 200, else 1: `probe http://127.0.0.1:6066/readyz`.

The images have it as `probe`; what it prints is what `docker inspect` shows of a container's health.
"""

import sys
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

_TIMEOUT_S = 3.0
_MOST_BYTES = 1_000


def ask(url: str) -> tuple[bool, str]:
    """Return whether the endpoint is content, and what it said."""
    # Without proxies: what is asked is this container.
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(url, timeout=_TIMEOUT_S) as answer:
            return True, answer.read(_MOST_BYTES).decode("utf-8", "replace").strip()
    except HTTPError as error:
        return False, error.read(_MOST_BYTES).decode("utf-8", "replace").strip()
    except OSError as error:
        return False, f"{url} does not answer: {error}"


if __name__ == "__main__":
    is_content, sentence = ask(*sys.argv[1:])
    sys.stdout.write(f"{sentence}\n")
    sys.exit(not is_content)
