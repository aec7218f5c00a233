// What needs somebody's attention, wherever it comes from: endpoints, sources, certificate, threads.

import { html } from '/assets/vendor/preact-htm.js';
import { getAll } from '../api.js';
import { current } from '../session.js';
import { useDeliveries, useLive } from '../live.js';
import { useEvery, useLoaded, useSettled } from '../parts.js';
import { micros, source as sourceName, span } from '../format.js';

/** A certificate is named this long before its end. */
const CERTIFICATE_DAYS = 21;
/** A thread that stands still this long is named. */
const STILL_US = 2_000_000;

const host = (url) => url.replace(/^https:\/\//, '').replace(/\/.*$/, '');

/** What is wrong with endpoints. */
export function endpointWarnings(endpoints) {
  const told = [];
  for (const endpoint of endpoints) {
    const href = `#/webhooks/${endpoint.id}`;
    const name = endpoint.label || host(endpoint.url);
    if (endpoint.state === 'disabled_auto') {
      told.push({ kind: 'bad', href, text: `${name} was switched off after ${endpoint.failures} failures in a row. Events are held for it; resume it once it answers.` });
    } else if (endpoint.state === 'disabled_gone') {
      told.push({ kind: 'bad', href, text: `${name} answered 410 twice: it is switched off.` });
    } else if (endpoint.state === 'suspended') {
      told.push({ kind: 'warn', href, text: `${name} does not answer in time: it is suspended and probed until it does.` });
    } else if (endpoint.slow) {
      told.push({ kind: 'warn', href, text: `${name} is slow: 95 % of its last attempts took up to ${micros(endpoint.p95_ms * 1e3)}, above 5 s.` });
    }
    if (endpoint.previous_secret_until) {
      told.push({ kind: 'note', href, text: `${name} still signs with its secret before, for ${span((Date.parse(endpoint.previous_secret_until) - Date.now()) / 1000)}.` });
    }
  }
  return told;
}

function engineWarnings(status, machine) {
  const told = [];
  if (status) {
    if (status.draining) told.push({ kind: 'warn', text: 'The service drains: it takes no further subscribers and is about to stop.' });
    for (const source of status.sources.filter((one) => one.state !== 'live' && one.polls > 0)) {
      told.push({ kind: source.state === 'down' ? 'bad' : 'warn', href: '#/sources', text: `${sourceName(source.name)} is ${source.state}.` });
    }
    for (const thread of status.threads.filter((one) => one.still_us > STILL_US)) {
      told.push({ kind: 'bad', href: '#/host', text: `Thread ${thread.name} has not moved for ${micros(thread.still_us)}.` });
    }
  }
  const ends = machine && machine.certificate_expires_at && (Date.parse(machine.certificate_expires_at) - Date.now()) / 1000;
  if (ends !== null && ends !== undefined && ends < CERTIFICATE_DAYS * 86_400) {
    const text = ends > 0 ? `The feed's certificate expires in ${span(ends)}.` : 'The feed\'s certificate has expired.';
    told.push({ kind: ends > 0 ? 'warn' : 'bad', href: '#/host', text });
  }
  return told;
}

/** `endpoints`: where the page has them already. */
export function Warnings({ endpoints }) {
  const { status, host: machine } = useLive();
  const { session } = current();
  const path = session && session.role === 'administrator' ? '/admin/v1/webhooks' : '/v1/webhooks';
  const loaded = useLoaded(async () => (endpoints ? null : getAll(path, 'webhooks')));
  const again = useSettled(500, () => endpoints || loaded.reload());
  // An administrator's list may be long: that one is asked for on the clock alone.
  useDeliveries(() => path.startsWith('/v1') && again());
  useEvery(15_000, () => endpoints || loaded.reload());
  const known = endpoints || (loaded.value ? loaded.value : []);
  const told = [...endpointWarnings(known), ...engineWarnings(status, machine)];
  if (!told.length) return null;
  return html`<ul class="warnings" aria-label="Warnings">${told.map(({ kind, text, href }) => html`
    <li class=${`banner ${kind}`}><span class="banner-mark" aria-hidden="true">${kind === 'note' ? 'i' : '!'}</span>
      <span class="banner-text">${text}</span>${href && href !== location.hash && html`<a href=${href}>Look</a>`}</li>`)}</ul>`;
}
