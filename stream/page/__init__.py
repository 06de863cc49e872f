"""The live page: what the topics say, as one page in a browser, beside worker and trainer and without touching them."""

from typing import Final

_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (an address is made of it, nothing is bound)


def address_of(host: str, port: int) -> str:
    """Return where a browser on this machine finds the page that listens there."""
    name = _EVERYWHERE.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
