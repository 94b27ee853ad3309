"""predict scores any bytes."""

import json

HOSTILE = [
    b"good\x00bad\x00",
    b"\xff\xfe" + "schlecht, ungenießbar".encode("latin-1"),
    "\ud83d".encode("utf-8", "surrogatepass") + b" lone surrogate",
    b"\x1b[31m red \x07",
    b"<" * 10_000,
    b"&" * 10_000 + b"amp;",
    "a\u0300".encode() * 5000,
]


def test_any_bytes_get_a_probability(run, trained):
    stdin = b"\n".join([*HOSTILE, b"a fine film"]) + b"\n"
    done = run("predict", f"--model_dir={trained}", "--format=jsonl", stdin=stdin)
    messages = done.stderr.decode().splitlines()
    assert (done.returncode, len(messages)) == (0, 1), messages
    assert "2 lines of stdin are not UTF-8, the first is line 2" in messages[0]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == len(HOSTILE) + 1
    assert all(0 < row["probability"] < 1 for row in rows)
