"""The specification's receiver for Flask, in its shape: the HMAC of the raw body against the header
X-CEXPing-Signature, 401 or 200. What is in `common` is for the test."""

import hashlib
import hmac
import logging

import common
from flask import Flask, abort, request
from werkzeug.serving import WSGIRequestHandler, make_server

app = Flask(__name__)


def is_genuine(body, header):
    mac = hmac.new(common.secret().encode(), body, hashlib.sha256)
    return hmac.compare_digest(f"sha256={mac.hexdigest()}".encode(), header.encode())


@app.route(common.PATH, methods=["POST"])
def webhook():
    verified = is_genuine(request.data, request.headers.get("X-CEXPing-Signature", ""))
    common.heard(verified, request.data, request.headers.get)
    if not verified:
        abort(401)
    return {"ok": True}, 200


def main():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    WSGIRequestHandler.protocol_version = "HTTP/1.1"
    server = make_server("127.0.0.1", 0, app, threaded=True, ssl_context=common.tls())
    common.end_with_stdin()
    common.listening(server.server_port)
    server.serve_forever()


main()
