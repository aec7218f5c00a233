// The package `ws`: a broadcast is a loop over the server's clients, as its manual shows it.
'use strict';
const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const { WebSocket, WebSocketServer } = require('ws');
const { listen, ready } = require('./line.cjs');

const [cert, key] = process.argv.slice(2);
const server = cert
    ? https.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) })
    : http.createServer();
const feed = new WebSocketServer({ server, perMessageDeflate: false });
feed.on('connection', (client) => client.on('error', () => {}));
// node sets TCP_NODELAY for HTTP servers; ws sets it again for what is upgraded.
server.listen(0, '127.0.0.1', 4096, () => {
    const broadcast = (text) => {
        const bytes = Buffer.from(text);
        for (const client of feed.clients) {
            if (client.readyState === WebSocket.OPEN) {
                client.send(bytes, { binary: false });
            }
        }
    };
    listen(broadcast, (control) => ready(server.address().port, control));
});
