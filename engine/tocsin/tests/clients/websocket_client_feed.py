"""The feed read with the package `websocket-client`, as in the specification's quick start:
WebSocketApp with the key in `header`, run_forever with its own pings. See expectation.py."""

import json
import ssl
import threading

import websocket

from expectation import Expectation, ca_file, emit, insecure

expected = Expectation()


def on_message(app, raw):
    message = expected.take(raw)
    if message["type"] == "welcome" and expected.test:
        app.send(json.dumps({"type": "test"}))
    if expected.done:
        app.close()


def on_error(_app, error):
    if isinstance(error, websocket.WebSocketBadStatusException):
        body = error.resp_body or b""
        emit(event="refused", status=error.status_code, body=body.decode("utf-8", "replace"))
    else:
        emit(event="error", detail=f"{type(error).__name__}: {error}")


def on_close(_app, code, reason):
    emit(event="closed", code=code, reason=reason)


def main():
    sslopt = {"cert_reqs": ssl.CERT_NONE, "check_hostname": False} if insecure() else {"ca_certs": ca_file()}
    app = websocket.WebSocketApp(
        expected.url,
        header=[f"X-API-Key: {expected.key}"] if expected.key else [],
        on_message=on_message,
        on_error=on_error,
        on_close=on_close,
    )
    watch = threading.Timer(expected.timeout_secs, app.close)
    watch.daemon = True
    watch.start()
    app.run_forever(ping_interval=30, ping_timeout=10, sslopt=sslopt)
    expected.finish()


main()
