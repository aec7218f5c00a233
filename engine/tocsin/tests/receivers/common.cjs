// What the receivers in Node share; see common.py for what is in the environment and what is printed.
'use strict';

const fs = require('node:fs');
const https = require('node:https');

const PATH = '/webhook/cxp';

const secret = () => fs.readFileSync(process.env.RECEIVER_SECRET_FILE, 'ascii').trim();

const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

// Tells of one request. An event is read only from a body that has been verified.
function heard(verified, body, headers) {
  const event = verified ? JSON.parse(body) : {};
  say({
    event: 'request',
    verified,
    event_id: event.event_id ?? null,
    type: event.type ?? null,
    symbol: event.symbol ?? null,
    bytes: body.length,
    signature: headers['x-cexping-signature'] ?? null,
    signature_z: headers['x-cexpingz-signature'] ?? null,
    webhook_id: headers['webhook-id'] ?? null,
    webhook_signature: headers['webhook-signature'] ?? null,
    attempt: headers['x-cexping-attempt'] ?? null,
  });
}

const files = () => ({
  cert: fs.readFileSync(process.env.RECEIVER_CERT),
  key: fs.readFileSync(process.env.RECEIVER_KEY),
});

function listen(server) {
  server.listen(0, '127.0.0.1', () => {
    say({ event: 'listening', url: `https://127.0.0.1:${server.address().port}${PATH}` });
  });
  process.stdin.on('end', () => process.exit(0)).resume();
}

const serve = (handler) => listen(https.createServer(files(), handler));

module.exports = { PATH, secret, heard, files, listen, serve };
