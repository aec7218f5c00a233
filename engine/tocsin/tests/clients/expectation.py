"""What a test client waits for, told by the environment, and how it reports.

CLIENT_URL            address of the feed, with its query
CLIENT_KEY            API key for the X-API-Key header; unset sends none
CLIENT_CA             file with the certificate to trust, or
CLIENT_INSECURE=1     trust any certificate
CLIENT_ANNOUNCEMENTS  how many announcements to wait for (0)
CLIENT_HEARTBEATS     how many heartbeats to wait for (0)
CLIENT_TEST=1         ask for a test announcement and wait for it
CLIENT_TIMEOUT_SECS   give up after so long (30)

Each event is one JSON line on standard output: {"event":"message","binary":..,"at_us":..,"message":{..}},
{"event":"closed","code":..,"reason":..}, {"event":"refused","status":..}, {"event":"error","detail":..}.
Exit code 0 when everything asked for was seen; 1 with a last line {"event":"failed","detail":..} otherwise.
"""

import json
import os
import ssl
import sys
import time


class Expectation:
    """Counts what has arrived against what was asked for."""

    def __init__(self):
        self.url = os.environ["CLIENT_URL"]
        self.key = os.environ.get("CLIENT_KEY")
        self.test = os.environ.get("CLIENT_TEST") == "1"
        self.timeout_secs = float(os.environ.get("CLIENT_TIMEOUT_SECS", "30"))
        self.missing = {
            "welcome": 1,
            "test_announcement": 1 if self.test else 0,
            "announcement": int(os.environ.get("CLIENT_ANNOUNCEMENTS", "0")),
            "heartbeat": int(os.environ.get("CLIENT_HEARTBEATS", "0")),
        }

    @property
    def done(self):
        return not any(self.missing.values())

    def take(self, raw):
        """Reports one message as it came off the wire; returns it decoded."""
        at_us = time.time_ns() // 1000
        message = json.loads(raw)
        emit(event="message", binary=isinstance(raw, bytes), at_us=at_us, message=message)
        kind = message.get("type")
        if self.missing.get(kind):
            self.missing[kind] -= 1
        return message

    def finish(self):
        """Ends the program with its verdict."""
        if self.done:
            sys.exit(0)
        missing = {kind: count for kind, count in self.missing.items() if count}
        emit(event="failed", detail=f"not seen: {missing}")
        sys.exit(1)


def emit(**event):
    print(json.dumps(event, ensure_ascii=False), flush=True)


def insecure():
    return os.environ.get("CLIENT_INSECURE") == "1"


def ca_file():
    return os.environ.get("CLIENT_CA")


def ssl_context():
    """The context a user builds: the system's authorities, one given file, or none checked."""
    context = ssl.create_default_context(cafile=ca_file())
    if insecure():
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
