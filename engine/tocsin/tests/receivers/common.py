"""What the receivers in Python share.

Environment: RECEIVER_CERT and RECEIVER_KEY are PEM files; RECEIVER_SECRET_FILE holds the endpoint's
secret and is read for every request, so that a test can rotate it. A receiver listens on a free port of
127.0.0.1, prints one JSON object when it does and one for each request, and ends with its standard input.
"""

import json
import os
import pathlib
import ssl
import sys
import threading

PATH = "/webhook/cxp"


def secret():
    return pathlib.Path(os.environ["RECEIVER_SECRET_FILE"]).read_text(encoding="ascii").strip()


def tls():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.environ["RECEIVER_CERT"], os.environ["RECEIVER_KEY"])
    return context


def say(**what):
    # One write: lines of two threads must not mix.
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def listening(port):
    say(event="listening", url=f"https://127.0.0.1:{port}{PATH}")


def heard(verified, body, header):
    """Tells of one request; `header` finds a header by name. An event is read only from a body that
    has been verified."""
    event = json.loads(body) if verified else {}
    say(
        event="request",
        verified=verified,
        event_id=event.get("event_id"),
        type=event.get("type"),
        symbol=event.get("symbol"),
        bytes=len(body),
        signature=header("x-cexping-signature"),
        signature_z=header("x-cexpingz-signature"),
        webhook_id=header("webhook-id"),
        webhook_signature=header("webhook-signature"),
        attempt=header("x-cexping-attempt"),
    )


def end_with_stdin():
    def wait():
        while os.read(0, 4096):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
