// A receiver that leaves verification to an official package: library_receiver.cjs standardwebhooks|svix.
// Both refuse what is older or newer than five minutes.
'use strict';

const common = require('./common.cjs');

const { Webhook, WebhookVerificationError } = require(process.argv[2]);

function isGenuine(body, headers) {
  try {
    new Webhook(common.secret()).verify(body, headers);
    return true;
  } catch (error) {
    if (error instanceof WebhookVerificationError) return false;
    throw error;
  }
}

common.serve((req, res) => {
  const parts = [];
  req.on('data', (part) => parts.push(part)).on('end', () => {
    const body = Buffer.concat(parts);
    const verified = isGenuine(body.toString('utf8'), req.headers);
    common.heard(verified, body, req.headers);
    res.writeHead(verified ? 200 : 401, { 'Content-Length': 0 }).end();
  });
});
