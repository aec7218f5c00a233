"""The feed over BoringSSL (the package `curl_cffi` carries it), for tests/tls_clients.rs: one version
of TLS, in 1.2 one cipher, one announcement, a clean close."""

import asyncio
import os

from curl_cffi import CurlOpt, CurlSslVersion
from curl_cffi.requests import AsyncSession


async def main():
    env = os.environ
    # libcurl: the least in the low half, the most in the high half.
    low = {"1.2": CurlSslVersion.TLSv1_2, "1.3": CurlSslVersion.TLSv1_3}[env["TLS_VERSION"]]
    options = {CurlOpt.SSLVERSION: low | (low << 16)}
    if env["TLS_VERSION"] == "1.2":
        options[CurlOpt.SSL_CIPHER_LIST] = env["TLS_CIPHER"].encode()
    async with AsyncSession(curl_options=options, verify=env["TLS_CA"]) as session:
        url = f"wss://{env['TLS_HOST']}:{env['TLS_PORT']}/"
        socket = await session.ws_connect(url, headers={"X-API-Key": env["TLS_KEY"]}, verify=env["TLS_CA"])
        message, _ = await socket.recv(timeout=30)
        assert b'"welcome"' in message, message
        print("ready", flush=True)
        while env["TLS_TITLE"].encode() not in message:
            message, _ = await socket.recv(timeout=60)
        await socket.send(b'{"type":"test"}')
        while b"test_announcement" not in message:
            message, _ = await socket.recv(timeout=30)
        await socket.close()
        print("closed", flush=True)


asyncio.run(main())
