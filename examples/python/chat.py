"""A call, and what the user has left. The standard library is enough."""

import json
import os
import urllib.error
import urllib.request

BASE = os.environ.get("WEIR_URL", "http://127.0.0.1:8787")
TOKEN = "user-of-the-example"


def call(path, body=None):
    """Answers the status and the JSON of a call."""
    request = urllib.request.Request(
        BASE + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.load(refusal)


status, answer = call(
    "/api/groq/openai/v1/chat/completions",
    {"model": "openai/gpt-oss-20b", "messages": [{"role": "user", "content": "Hello"}]},
)
if status == 200:
    print(answer["choices"][0]["message"]["content"])
else:
    # A spent quota or a block: the message says which limit, and when it resets.
    print(status, answer["error"]["code"], answer["error"]["message"])

for limit in call("/api/usage")[1]["limits"]:
    print(f"{limit['model']}: {limit['used']} of {limit['limit']} {limit['unit']} a {limit['window']}")
