// One endpoint: its state and what can be done with it, a test event, its delivery log, replay.

import { html, useRef, useState } from '/assets/vendor/preact-htm.js';
import { ask, get, post, settled } from '../api.js';
import { useDeliveries } from '../live.js';
import { Confirm, Dialog, Form } from '../dialogs.js';
import { ActionButton, Failure, Loading, PageHead, Panel, Secret, Time, useEvery, useLoaded, useSettled } from '../parts.js';
import { Meter } from '../charts.js';
import { count, micros } from '../format.js';
import { EVENTS, EXCHANGES, listed } from '../names.js';
import { DeliveryTable, Took } from './deliveries.js';
import { Outcome, State, Verification, base } from './webhooks.js';
import { Warnings } from './warnings.js';

/** Test events an account has a day: what the specification says. */
const TESTS_A_DAY = 50;
/** Lines of the delivery log that are asked for. */
const LINES = 50;

function Facts({ endpoint }) {
  const rows = [
    ['State', html`<${State} endpoint=${endpoint} />`],
    ['Since', html`<${Time} at=${endpoint.since} />`],
    ['Events', listed(endpoint.events)],
    ['Exchanges', listed(endpoint.exchanges)],
    ['P95 of the last 100 attempts', endpoint.p95_ms === null ? 'not enough attempts yet' : micros(endpoint.p95_ms * 1e3)],
    ['Failures in a row', html`${endpoint.failures} of 3 <${Meter} value=${endpoint.failures} most=${3} warnAt=${0.3} label="Failures in a row" />`],
    ['Waiting', count(endpoint.pending)],
    ['Warm connections', count(endpoint.connections)],
    ['Verified', html`<${Time} at=${endpoint.verified_at} />`],
    ...(endpoint.previous_secret_until ? [['Secret before signs until', html`<${Time} at=${endpoint.previous_secret_until} />`]] : []),
  ];
  return html`<dl class="facts">${rows.map(([name, value]) => html`<div><dt>${name}</dt><dd class="num">${value}</dd></div>`)}</dl>`;
}

function Rotate({ path, onClose, done }) {
  const [made, setMade] = useState(null);
  if (made) {
    return html`<${Dialog} title="The new secret" onClose=${onClose}>
      <${Secret} name="New signing secret" value=${made.secret}>
        <p class="hint">${made.previous_secret_until
          ? html`The one before signs beside it until <${Time} at=${made.previous_secret_until} />.`
          : 'The one before no longer signs.'}</p><//>
      <div class="form-actions"><button type="button" class="primary" onClick=${onClose}>I have kept it</button></div><//>`;
  }
  const fields = [{ name: 'grace', label: 'The secret before goes on signing for', kind: 'select', value: '86400',
    options: [['0', 'not at all'], ['3600', 'an hour'], ['86400', '24 hours'], ['604800', '7 days']] }];
  return html`<${Dialog} title="Rotate the secret" onClose=${onClose} className="small">
    <${Form} fields=${fields} submit="Draw a new secret" onCancel=${onClose}
      send=${({ grace }) => post(`${path}/rotate`, { grace_secs: Number(grace) })} done=${(answer) => { setMade(answer); done(); }} /><//>`;
}

function Edit({ endpoint, path, onClose, done }) {
  const some = (names) => (names.includes('*') ? [] : names);
  const fields = [
    { name: 'label', label: 'Label', value: endpoint.label },
    { name: 'events', label: 'Events', kind: 'checks', options: EVENTS, value: some(endpoint.events) },
    { name: 'exchanges', label: 'Exchanges', kind: 'checks', options: EXCHANGES, value: some(endpoint.exchanges) },
  ];
  const all = (names) => (names.length ? names : ['*']);
  const send = (values) => ask('PATCH', path, { label: values.label.trim(), events: all(values.events), exchanges: all(values.exchanges) });
  return html`<${Dialog} title="Change what it gets" onClose=${onClose}>
    <${Form} fields=${fields} send=${send} submit="Save" onCancel=${onClose} done=${() => { onClose(); done(); }} /><//>`;
}

const SINCE = [['3600', 'the last hour'], ['86400', 'the last 24 hours'], ['604800', 'the last 7 days'], ['own', 'an instant of your choice']];

function Replay({ path, onClose, done }) {
  const [queued, setQueued] = useState(null);
  if (queued) {
    return html`<${Dialog} title="Replay" onClose=${onClose} className="small">
      <p role="status">${queued.queued === 0 ? 'There was nothing to replay.' : `${count(queued.queued)} events are on their way again.`}</p>
      ${queued.next_since && html`<p class="hint">There are more: replay again from <${Time} at=${queued.next_since} />.</p>`}
      <div class="form-actions"><button type="button" class="primary" onClick=${onClose}>Done</button></div><//>`;
  }
  const fields = [
    { name: 'span', label: 'Send again what came in', kind: 'select', options: SINCE, value: '3600' },
    { name: 'since', label: 'Or since', kind: 'datetime-local', hint: 'In your time zone; used with "an instant of your choice"' },
    { name: 'types', label: 'Events', kind: 'checks', options: EVENTS, value: [] },
  ];
  const send = ({ span, since, types }) => {
    const from = span === 'own' ? new Date(since) : new Date(Date.now() - Number(span) * 1000);
    const text = Number.isNaN(from.getTime()) ? since : from.toISOString();
    return post(`${path}/replay`, { since: text, types: types.length ? types : undefined });
  };
  return html`<${Dialog} title="Replay since" onClose=${onClose}>
    <${Form} fields=${fields} send=${send} submit="Replay" onCancel=${onClose} done=${(answer) => { setQueued(answer); done(); }}
      note="Events this endpoint wants, whether or not it had them before." /><//>`;
}

function TestEvent({ endpoint, path, left, done }) {
  const [kind, setKind] = useState('new_listing');
  const [sent, setSent] = useState(null);
  const [error, setError] = useState(null);
  const send = async () => {
    setError(null);
    try {
      setSent(await post(`${path}/test`, { type: kind }));
    } catch (refusal) {
      setError(refusal);
    }
    done();
  };
  const known = sent ? sent.tests_left : left;
  const used = known === null || known === undefined ? null : TESTS_A_DAY - known;
  return html`
    <${Panel} title="Test event" id="endpoint-test" note=${used === null ? '' : `${used} of ${TESTS_A_DAY} used today (UTC)`}>
      <div class="test-row">
        <label for="test-kind">Kind</label>
        <select id="test-kind" value=${kind} onChange=${(event) => setKind(event.target.value)}>
          ${[...EVENTS, ['ping', 'Ping']].map(([name, text]) => html`<option value=${name}>${text}</option>`)}</select>
        <${ActionButton} kind="primary" onClick=${send} disabled=${endpoint.state === 'pending' || known === 0}>Send test event<//>
        ${used !== null && html`<${Meter} value=${used} most=${TESTS_A_DAY} label="Test events used today" />`}
      </div>
      ${endpoint.state === 'pending' && html`<p class="hint">Verify the endpoint first.</p>`}
      ${error && html`<${Failure} error=${error} />`}
      ${sent && html`<${Outcome} outcome=${sent} good="Delivered" />${sent.event_id && html`<p class="hint">Event <code>${sent.event_id}</code></p>`}`}
    <//>`;
}

function Pending({ endpoint, path, done }) {
  const [answer, setAnswer] = useState(null);
  const [error, setError] = useState(null);
  const verify = async () => {
    setError(null);
    try {
      setAnswer(await post(`${path}/verify`));
    } catch (refusal) {
      setError(refusal);
    }
    done();
  };
  return html`
    <${Panel} title="Verification" id="endpoint-verification">
      ${answer
        ? html`<${Verification} endpoint=${endpoint} outcome=${answer.verification} verify=${verify} />`
        : html`<p>No event is sent before a signed ping was answered with a status from 200 to 299.</p>
          <${ActionButton} kind="primary" onClick=${verify}>Verify now<//>`}
      ${error && html`<${Failure} error=${error} />`}
    <//>`;
}

function Actions({ endpoint, act, open }) {
  const running = endpoint.state === 'active' || endpoint.state === 'suspended';
  return html`
    ${endpoint.state !== 'pending' && (running
      ? html`<${ActionButton} onClick=${() => act('disable')}>Pause<//>`
      : html`<${ActionButton} kind="primary" onClick=${() => act('enable')}>Resume<//>`)}
    <button type="button" onClick=${() => open('edit')}>Change</button>
    <button type="button" onClick=${() => open('rotate')}>Rotate secret</button>
    ${endpoint.state !== 'pending' && html`<button type="button" onClick=${() => open('replay')}>Replay since</button>`}
    <button type="button" class="danger-quiet" onClick=${() => open('remove')}>Remove</button>`;
}

export function Endpoint({ who, at }) {
  const path = `${base(who)}/${encodeURIComponent(at[1])}`;
  const [dialog, setDialog] = useState(null);
  const [refusal, setRefusal] = useState(null);
  const endpoint = useLoaded(() => get(path));
  const log = useLoaded(async () => (await get(`${path}/deliveries?limit=${LINES}`)).deliveries);
  const account = useLoaded(async () => {
    if (who.role !== 'administrator') return get('/v1/account');
    const { account: id } = await get(path);
    return get(`/admin/v1/accounts/${id}`);
  });
  // While it is being removed nothing is asked of it: the answer would be that there is none.
  const going = useRef(false);
  const reload = () => {
    if (going.current) return;
    endpoint.reload();
    log.reload();
    account.reload();
  };
  const again = useSettled(150, reload);
  useDeliveries((line) => String(line.endpoint) === at[1] && again());
  useEvery(5000, () => {
    if (going.current) return;
    endpoint.reload();
    log.reload();
  });
  const remove = async () => {
    going.current = true;
    try {
      await settled();
      return await ask('DELETE', path);
    } catch (error) {
      going.current = false;
      throw error;
    }
  };
  const one = endpoint.value;
  const close = () => setDialog(null);
  const act = async (verb) => {
    setRefusal(null);
    try {
      await post(`${path}/${verb}`);
    } catch (error) {
      setRefusal(error);
    }
    endpoint.reload();
  };
  if (!one) {
    return html`<${PageHead} title="Webhook" />${endpoint.error
      ? html`<${Failure} error=${endpoint.error} retry=${endpoint.reload} /><p><a href="#/webhooks">All webhooks</a></p>`
      : html`<${Loading} what="the endpoint" rows=${4} />`}`;
  }
  const resend = async (line) => {
    await post(`${path}/deliveries/${line.event_id}/resend`);
    again();
  };
  return html`
    <p class="crumbs"><a href="#/webhooks">Webhooks</a> <span aria-hidden="true">/</span> ${one.label || `endpoint ${one.id}`}</p>
    <${PageHead} title=${one.label || 'Endpoint'} actions=${html`<${Actions} endpoint=${one} act=${act} open=${setDialog} />`}>
      <span class="url-line">${one.url}</span><//>
    <${Warnings} endpoints=${[one]} />
    ${refusal && html`<${Failure} error=${refusal} />`}
    <div class="grid halves">
      <div class="stack">
        ${one.state === 'pending' && html`<${Pending} endpoint=${one} path=${path} done=${reload} />`}
        <${TestEvent} endpoint=${one} path=${path} left=${account.value && account.value.tests_left} done=${reload} />
        ${log.value && html`<${Took} lines=${log.value} />`}
      </div>
      <${Panel} title="Health" id="endpoint-health"><${Facts} endpoint=${one} /><//>
    </div>
    <${Panel} title="Deliveries" id="endpoint-deliveries" wide=${true} note="newest first">
      ${log.error && html`<${Failure} error=${log.error} retry=${log.reload} />`}
      ${!log.value && !log.error && html`<${Loading} what="deliveries" rows=${4} />`}
      ${log.value && html`<${DeliveryTable} lines=${log.value} resend=${resend} />`}
    <//>
    ${dialog === 'edit' && html`<${Edit} endpoint=${one} path=${path} onClose=${close} done=${reload} />`}
    ${dialog === 'rotate' && html`<${Rotate} path=${path} onClose=${close} done=${reload} />`}
    ${dialog === 'replay' && html`<${Replay} path=${path} onClose=${close} done=${again} />`}
    ${dialog === 'remove' && html`<${Confirm} title="Remove the endpoint" submit="Remove for ever" onClose=${close}
      send=${remove} done=${() => { close(); location.hash = '#/webhooks'; }}>
      <p>What waits for it and its delivery log go with it.</p><//>`}`;
}
