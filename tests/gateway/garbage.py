"""Twenty and more kinds of keys that are not keys, made from a good one."""

from bursar.keys import KeyChecker

OTHER_SECRET = b"the secret of quite another installation, long enough"


def garbage_headers(good: str) -> dict[str, str]:
    """Kind → value of the Authorization header, in what an HTTP header can carry (latin-1, no line ends, no NUL)."""
    other = KeyChecker(OTHER_SECRET).mint()
    flipped = good[:-1] + ("a" if good[-1] != "a" else "b")
    changed = good[:20] + ("a" if good[20] != "a" else "b") + good[21:]
    return {
        "empty": "",
        "blank": "   ",
        "scheme only": "Bearer",
        "scheme and space": "Bearer ",
        "word": "Bearer banana",
        "prefix only": "Bearer sk-bursar-v1-",
        "sql": "Bearer ' OR '1'='1' --",
        "sql in shape": "Bearer " + ("sk-bursar-v1-'; DROP TABLE keys; --" + "x" * 64)[: len(good)],
        "wrong checksum": f"Bearer {flipped}",
        "one character changed": f"Bearer {changed}",
        "truncated": f"Bearer {good[:-1]}",
        "one too many": f"Bearer {good}x",
        "another installation's": f"Bearer {other}",
        "lower-cased": f"Bearer {good.lower()}",
        "upper-cased": f"Bearer {good.upper()}",
        "spaces inside": f"Bearer {good[:20]} {good[20:]}",
        "two keys": f"Bearer {good},{good}",
        "basic scheme": f"Basic {good}",
        "no scheme": good,
        "quoted": f'Bearer "{good}"',
        "unicode": "Bearer sk-bursar-v1-" + "\u00fc\u00df\u00e9" * 17,
        "openai's": "Bearer sk-proj-" + "A1b2" * 10,
        "openrouter's": "Bearer sk-or-v1-" + "0" * 64,
        "long": "Bearer " + "sk-bursar-v1-" + "A" * 50_000,
        "json": 'Bearer {"key": "value"}',
        "path": "Bearer ../../etc/passwd",
        "null word": "Bearer null",
        "bearer twice": f"Bearer Bearer {good}",
        "hash": "Bearer " + "0123456789abcdef" * 4,
        "label": f"Bearer {good[:16]}...{good[-4:]}",
    }
