"""The feed read with the package `websockets`, as in the specification's code example:
connect with the key in the headers, recv under a heartbeat timeout. See expectation.py."""

import asyncio
import inspect
import json
import time

import websockets

from expectation import Expectation, emit, ssl_context

HEARTBEAT_TIMEOUT_SECS = 35

expected = Expectation()


def header_option():
    """Versions before 14 call the option `extra_headers`."""
    known = inspect.signature(websockets.connect.__init__).parameters
    return "additional_headers" if "additional_headers" in known else "extra_headers"


async def read():
    options = {header_option(): {"X-API-Key": expected.key}} if expected.key else {}
    if expected.url.startswith("wss:"):
        options["ssl"] = ssl_context()
    end = time.monotonic() + expected.timeout_secs
    async with websockets.connect(expected.url, **options) as socket:
        while not expected.done:
            patience = min(HEARTBEAT_TIMEOUT_SECS, end - time.monotonic())
            try:
                raw = await asyncio.wait_for(socket.recv(), timeout=patience)
            except asyncio.TimeoutError:
                break
            message = expected.take(raw)
            if message["type"] == "welcome" and expected.test:
                await socket.send(json.dumps({"type": "test"}))
    emit(event="closed", code=socket.close_code, reason=socket.close_reason)


async def main():
    try:
        await read()
    except websockets.ConnectionClosed as closed:
        frame = closed.rcvd
        emit(event="closed", code=frame.code if frame else None, reason=frame.reason if frame else None)
    except websockets.InvalidStatus as refused:
        response = refused.response
        emit(event="refused", status=response.status_code, body=(response.body or b"").decode("utf-8", "replace"))
    except (OSError, websockets.WebSocketException) as error:
        emit(event="error", detail=f"{type(error).__name__}: {error}")
    expected.finish()


asyncio.run(main())
