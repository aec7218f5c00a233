// Runs the JavaScript of docs/webhooks.md, saved as verify.mjs beside this file; see driver.py.
import fs from 'node:fs';
import { verify, verifyStandard } from './verify.mjs';

for (const line of fs.readFileSync(0, 'utf8').trimEnd().split('\n')) {
  const [kind, ...fields] = line.split(' ');
  const [body, ...rest] = fields.map((field) => Buffer.from(field, 'base64'));
  const texts = rest.map((field) => field.toString('utf8'));
  const verified =
    kind === 'specified' ? verify(body, ...texts) : verifyStandard(body, ...texts.slice(0, -1), Number(texts.at(-1)));
  console.log(String(verified));
}
