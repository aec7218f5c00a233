"""Runs the Python of docs/webhooks.md, saved as verify.py beside this file.

All drivers alike: lines of fields separated by a blank, every field in base64, come in; `true` or `false`
goes out for each. `specified BODY HEADER SECRET` or `standard BODY ID TIMESTAMP HEADER SECRET NOW`.
"""

import base64
import sys

import verify

for line in sys.stdin:
    kind, *fields = line.rstrip("\n").split(" ")
    body, *rest = (base64.b64decode(field) for field in fields)
    rest = [field.decode() for field in rest]
    if kind == "specified":
        verified = verify.verify(body, *rest)
    else:
        verified = verify.verify_standard(body, *rest[:-1], now=int(rest[-1]))
    print(str(verified).lower())
