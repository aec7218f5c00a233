// The specification's receiver for Express, in its shape: the HMAC of the raw body against the header
// x-cexpingz-signature, 401 or 200. What is in `common` is for the test.
'use strict';

const crypto = require('node:crypto');
const express = require('express');
const common = require('./common.cjs');

function isGenuine(body, claimed) {
  const mac = crypto.createHmac('sha256', common.secret()).update(body);
  const expected = Buffer.from(`sha256=${mac.digest('hex')}`);
  const given = Buffer.from(claimed);
  // timingSafeEqual throws where the lengths differ.
  return given.length === expected.length && crypto.timingSafeEqual(given, expected);
}

const app = express();
app.post(common.PATH, express.raw({ type: 'application/json' }), (req, res) => {
  const verified = isGenuine(req.body, req.get('x-cexpingz-signature') ?? '');
  common.heard(verified, req.body, req.headers);
  if (verified) res.status(200).json({ ok: true });
  else res.status(401).end();
});

common.serve(app);
