"""A WebSocket client over Python's own `ssl`, no package between, for tests/tls_clients.rs: one
version and cipher of TLS, a ping sent in the same flight as the request, one announcement, and an
end that must be `close_notify` and nothing less."""

import os
import socket
import ssl

MASK = bytes([1, 2, 3, 4])


def frame(opcode, payload):
    masked = bytes(byte ^ MASK[n % 4] for n, byte in enumerate(payload))
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + MASK + masked


class Frames:
    def __init__(self, sock):
        self.sock = sock
        self.bytes = b""

    def take(self, count):
        while len(self.bytes) < count:
            more = self.sock.recv(65_536)
            assert more, "ended early"
            self.bytes += more
        taken, self.bytes = self.bytes[:count], self.bytes[count:]
        return taken

    def head(self):
        while b"\r\n\r\n" not in self.bytes:
            self.bytes += self.sock.recv(65_536)
        head, self.bytes = self.bytes.split(b"\r\n\r\n", 1)
        return head

    def next(self):
        first, second = self.take(2)
        length = second if second < 126 else int.from_bytes(self.take(2), "big")
        return first & 15, self.take(length)


def wait_for(frames, opcode, part):
    while True:
        got, payload = frames.next()
        if got == opcode and part in payload:
            return payload


def main():
    env = os.environ
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(env["TLS_CA"])
    version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[env["TLS_VERSION"]]
    context.minimum_version = context.maximum_version = version
    if version == ssl.TLSVersion.TLSv1_2:
        context.set_ciphers(env["TLS_CIPHER"])
    address = (env["TLS_HOST"], int(env["TLS_PORT"]))
    with socket.create_connection(address, timeout=60) as tcp:
        sock = context.wrap_socket(tcp, server_hostname=env["TLS_HOST"], suppress_ragged_eofs=False)
        request = (
            f"GET / HTTP/1.1\r\nHost: {address[0]}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"X-API-Key: {env['TLS_KEY']}\r\n\r\n"
        )
        sock.sendall(request.encode() + frame(9, b"early"))
        frames = Frames(sock)
        assert b" 101 " in frames.head()
        # Whichever comes first.
        seen = {frames.next() for _ in range(2)}
        assert (10, b"early") in seen and any(b'"welcome"' in payload for _, payload in seen), seen
        print(sock.version(), sock.cipher()[0], flush=True)
        wait_for(frames, 2, env["TLS_TITLE"].encode())
        sock.sendall(frame(9, b"late"))
        wait_for(frames, 10, b"late")
        sock.sendall(frame(8, b"\x03\xe8"))
        wait_for(frames, 8, b"\x03\xe8")
        # Empty is a clean end; one without `close_notify` is an exception.
        assert sock.recv(1) == b""
        print("closed", flush=True)


main()
