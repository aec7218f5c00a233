// A WebSocket client over Node's own `tls`, no package between, for tests/tls_clients.rs: one version
// and cipher of TLS, a ping sent in the same flight as the request, one announcement, a clean close.
"use strict";
const fs = require("fs");
const tls = require("tls");

const env = process.env;
const version = `TLSv${env.TLS_VERSION}`;
const mask = Buffer.from([1, 2, 3, 4]);

function frame(opcode, payload) {
  const masked = Buffer.from(payload).map((byte, n) => byte ^ mask[n % 4]);
  return Buffer.concat([Buffer.from([0x80 | opcode, 0x80 | masked.length]), mask, masked]);
}

const socket = tls.connect({
  host: env.TLS_HOST,
  port: Number(env.TLS_PORT),
  ca: fs.readFileSync(env.TLS_CA),
  minVersion: version,
  maxVersion: version,
  ciphers: env.TLS_CIPHER,
});

let bytes = Buffer.alloc(0);
let answered = false;
const seen = new Set();

function take(opcode, payload) {
  const text = payload.toString();
  if (opcode === 10) seen.add(text);
  if (opcode === 2 && text.includes('"welcome"')) seen.add("welcome");
  if (seen.has("early") && seen.has("welcome") && !seen.has("ready")) {
    seen.add("ready");
    console.log(socket.getProtocol(), socket.getCipher().name);
  }
  if (opcode === 2 && text.includes(env.TLS_TITLE)) socket.write(frame(9, "late"));
  if (opcode === 10 && text === "late") socket.write(frame(8, [3, 232]));
  if (opcode === 8) seen.add(`close ${payload.readUInt16BE(0)}`);
}

socket.on("secureConnect", () => {
  const request =
    `GET / HTTP/1.1\r\nHost: ${env.TLS_HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
    `X-API-Key: ${env.TLS_KEY}\r\n\r\n`;
  socket.write(Buffer.concat([Buffer.from(request), frame(9, "early")]));
});
socket.on("data", (data) => {
  bytes = Buffer.concat([bytes, data]);
  if (!answered) {
    const end = bytes.indexOf("\r\n\r\n");
    if (end < 0) return;
    if (!bytes.subarray(0, end).includes(" 101 ")) throw new Error(bytes.toString());
    bytes = bytes.subarray(end + 4);
    answered = true;
  }
  for (;;) {
    if (bytes.length < 4) return;
    const long = bytes[1] === 126;
    const start = long ? 4 : 2;
    const end = start + (long ? bytes.readUInt16BE(2) : bytes[1]);
    if (bytes.length < end) return;
    take(bytes[0] & 15, bytes.subarray(start, end));
    bytes = bytes.subarray(end);
  }
});
socket.on("end", () => {
  if (!seen.has("close 1000")) throw new Error("ended early");
  console.log("closed");
  socket.destroy();
});
setTimeout(() => {
  console.error("too late", [...seen]);
  process.exit(1);
}, 60_000).unref();
