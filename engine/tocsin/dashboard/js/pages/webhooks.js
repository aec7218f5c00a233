// Settings, Webhooks: the endpoints there are, and Add URL: register, verify, keep the secret.

import { html, useState } from '/assets/vendor/preact-htm.js';
import { getAll, post } from '../api.js';
import { useDeliveries } from '../live.js';
import { Dialog, Form } from '../dialogs.js';
import { ActionButton, Empty, Failure, Light, Loading, PageHead, Panel, Secret, Table, useEvery, useLoaded, useSettled } from '../parts.js';
import { PhaseBar, PhaseKey } from '../charts.js';
import { count, micros } from '../format.js';
import { ENDPOINT_STATES, EVENTS, EXCHANGES, failure, listed } from '../names.js';
import { Warnings } from './warnings.js';

/** Where the routes of endpoints are for this role. */
export const base = (who) => (who.role === 'administrator' ? '/admin/v1/webhooks' : '/v1/webhooks');

export function State({ endpoint }) {
  const [kind, text] = ENDPOINT_STATES[endpoint.state] || ['off', endpoint.state];
  return html`<${Light} kind=${kind}>${text}<//>`;
}

/** How an attempt went: what failed, why, and where the time went. */
export function Outcome({ outcome, good }) {
  const took = outcome.took_us === null ? '' : ` after ${micros(outcome.took_us)}`;
  return html`
    <div class=${`outcome ${outcome.ok ? 'ok' : 'bad'}`} role="status">
      <p class="outcome-head"><${Light} kind=${outcome.ok ? 'ok' : 'bad'}>${outcome.ok ? `${good}${took}` : failure(outcome)}<//></p>
      ${outcome.detail && html`<p class="outcome-detail">${outcome.detail}</p>`}
      ${outcome.phases && html`<${PhaseBar} phases=${outcome.phases} /><${PhaseKey} />`}
    </div>`;
}

/** What to do about a verification that failed. */
function advice(outcome) {
  if (outcome.status === 401 || outcome.status === 403) return 'Your receiver checks signatures and does not know the secret yet: deploy the secret, then verify again.';
  if (outcome.failed === 'response') return 'Your receiver answered, but not with a status from 200 to 299: look at its path and its log, then verify again.';
  if (outcome.failed === 'dns') return 'Check the host name and its DNS records, then verify again.';
  if (outcome.failed === 'tls') return 'Check the certificate: it has to be valid, for this host name, with its whole chain. Then verify again.';
  if (outcome.failed === 'connect') return 'Check that the receiver listens and that its firewall lets this service in, then verify again.';
  return 'Check the receiver, then verify again.';
}

/** The result of a verification; asks for another until it succeeds. */
export function Verification({ endpoint, outcome, verify }) {
  return html`
    <${Outcome} outcome=${outcome} good="Verified: the signed ping was answered" />
    ${!outcome.ok && html`<p class="advice">${advice(outcome)}</p>
      <${ActionButton} onClick=${verify} label=${`Verify again: ${endpoint.url}`}>Verify again<//>`}`;
}

function Add({ who, accounts, onClose, done }) {
  const [made, setMade] = useState(null);
  const [error, setError] = useState(null);
  const verify = async () => {
    setError(null);
    try {
      const answer = await post(`${base(who)}/${made.id}/verify`);
      setMade({ ...made, ...answer });
      done();
    } catch (refusal) {
      setError(refusal);
    }
  };
  if (made) {
    return html`<${Dialog} title=${made.verification.ok ? 'The endpoint is active' : 'Registered, not verified yet'} onClose=${onClose} className="large">
      <p class="url-line">${made.url}</p>
      <${Secret} name="Signing secret" value=${made.secret}>
        <p class="hint">Your receiver checks each request's signature with it.</p><//>
      <h3>Verification</h3>
      <${Verification} endpoint=${made} outcome=${made.verification} verify=${verify} />
      ${error && html`<${Failure} error=${error} />`}
      <div class="form-actions">
        <button type="button" onClick=${onClose}>Close</button>
        <a class="button primary" href=${`#/webhooks/${made.id}`} onClick=${onClose}>Open the endpoint</a>
      </div>
    <//>`;
  }
  const administrator = who.role === 'administrator';
  if (!accounts) return html`<${Dialog} title="Add URL" onClose=${onClose}><${Loading} what="accounts" rows=${2} /><//>`;
  const entitled = accounts.filter((account) => account.webhooks);
  const fields = [
    ...(administrator ? [{ name: 'account', label: 'Account', kind: 'select', options: entitled.map((a) => [String(a.id), a.name]), value: entitled.length ? String(entitled[0].id) : '' }] : []),
    { name: 'url', label: 'URL', kind: 'url', placeholder: 'https://bot.example.com/webhook/cxp', hint: 'Public, https. A signed ping goes there at once.' },
    { name: 'label', label: 'Label', hint: 'A note for yourself' },
    { name: 'events', label: 'Events', kind: 'checks', options: EVENTS, value: [] },
    { name: 'exchanges', label: 'Exchanges', kind: 'checks', options: EXCHANGES, value: [] },
  ];
  const send = (values) => post(administrator ? `/admin/v1/accounts/${values.account}/webhooks` : '/v1/webhooks', {
    url: values.url.trim(),
    label: values.label.trim() || undefined,
    events: values.events.length ? values.events : undefined,
    exchanges: values.exchanges.length ? values.exchanges : undefined,
  });
  return html`<${Dialog} title="Add URL" onClose=${onClose} className="large">
    ${administrator && !entitled.length
      ? html`<${Empty} title="No account has webhooks">Make an account with a plan that has them first.<//>`
      : html`<${Form} fields=${fields} send=${send} submit="Register and verify" onCancel=${onClose} done=${(answer) => { setMade(answer); done(); }} />`}
  <//>`;
}

const HEAD = [
  'Endpoint', 'State', { text: 'Account', cls: 'lo' }, { text: 'Events', cls: 'lo' }, { text: 'Exchanges', cls: 'lo' },
  { text: 'P95', cls: 'num' }, { text: 'Failures', cls: 'num lo' }, { text: 'Waiting', cls: 'num' },
];

function Row({ endpoint, administrator, account }) {
  return html`
    <tr>
      <th scope="row" class="title"><a href=${`#/webhooks/${endpoint.id}`}>${endpoint.label || endpoint.url}</a>
        ${endpoint.label && html`<span class="sub">${endpoint.url}</span>`}</th>
      <td><${State} endpoint=${endpoint} /></td>
      ${administrator && html`<td class="lo">${account}</td>`}
      <td class="lo">${listed(endpoint.events)}</td>
      <td class="lo">${listed(endpoint.exchanges)}</td>
      <td class=${`num${endpoint.slow ? ' attention' : ''}`}>${endpoint.p95_ms === null ? '–' : micros(endpoint.p95_ms * 1e3)}</td>
      <td class=${`num lo${endpoint.failures ? ' attention' : ''}`}>${count(endpoint.failures)}</td>
      <td class="num">${count(endpoint.pending)}</td>
    </tr>`;
}

export function Webhooks({ who }) {
  const administrator = who.role === 'administrator';
  const [adding, setAdding] = useState(false);
  const { value, error, reload } = useLoaded(() => getAll(base(who), 'webhooks'));
  const accounts = useLoaded(async () => (administrator ? getAll('/admin/v1/accounts', 'accounts') : []));
  useDeliveries(useSettled(400, reload));
  useEvery(10_000, reload);
  const name = (id) => (accounts.value || []).find((account) => account.id === id)?.name || `#${id}`;
  const head = administrator ? HEAD : HEAD.filter((column) => column.text !== 'Account');
  const add = html`<button type="button" class="primary" onClick=${() => setAdding(true)}>Add URL</button>`;
  return html`
    <${PageHead} title="Webhooks" actions=${add}>Signed requests to your own URL, the moment an exchange announces something.<//>
    ${value && html`<${Warnings} endpoints=${value} />`}
    ${error && html`<${Failure} error=${error} retry=${error.status !== 403 && reload} />`}
    ${!value && !error && html`<${Loading} what="endpoints" rows=${3} />`}
    ${value && value.length === 0 && html`<${Empty} title="There is no endpoint yet">Add the URL of your receiver. It is sent a signed ping, and you see at once what it answered.<//>`}
    ${value && value.length > 0 && html`<${Panel} title="Endpoints" id="webhooks-all" wide=${true} note=${count(value.length)}>
      <${Table} name="Endpoints" head=${head}>${value.map((endpoint) => html`
        <${Row} key=${endpoint.id} endpoint=${endpoint} administrator=${administrator} account=${name(endpoint.account)} />`)}<//><//>`}
    ${adding && html`<${Add} who=${who} accounts=${accounts.value} onClose=${() => setAdding(false)} done=${reload} />`}`;
}
