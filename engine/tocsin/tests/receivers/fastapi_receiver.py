"""The specification's receiver for FastAPI, in its shape: the HMAC of the raw body against the header
x-cexpingz-signature, 401 or 200. Served by uvicorn over TLS. What is in `common` is for the test."""

import hashlib
import hmac
import os
import socket

import common
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

app = FastAPI()


@app.post(common.PATH)
async def webhook(request: Request):
    body = await request.body()
    claimed = request.headers.get("x-cexpingz-signature", "")
    mac = hmac.new(common.secret().encode(), body, hashlib.sha256)
    verified = hmac.compare_digest(f"sha256={mac.hexdigest()}".encode(), claimed.encode())
    common.heard(verified, body, request.headers.get)
    if not verified:
        raise HTTPException(status_code=401)
    return JSONResponse({"ok": True})


def main():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    # Before uvicorn takes it over, so that nobody who was told of it is refused.
    listener.listen(64)
    files = {"ssl_certfile": os.environ["RECEIVER_CERT"], "ssl_keyfile": os.environ["RECEIVER_KEY"]}
    config = uvicorn.Config(app, log_level="error", http="h11", lifespan="off", **files)
    common.end_with_stdin()
    common.listening(listener.getsockname()[1])
    uvicorn.Server(config).run(sockets=[listener])


main()
