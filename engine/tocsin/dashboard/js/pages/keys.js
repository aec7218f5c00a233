// Keys of the feed. The administrator makes, ends and revokes them; a customer sees the account's own.

import { html, useState } from '/assets/vendor/preact-htm.js';
import { ask, getAll, post } from '../api.js';
import { Confirm, Dialog, Form } from '../dialogs.js';
import { Empty, Failure, Light, Loading, PageHead, Panel, Secret, Table, Time, useEvery, useLoaded } from '../parts.js';
import { Meter } from '../charts.js';
import { count } from '../format.js';
import { EXCHANGES, TIERS, listed } from '../names.js';

const LIGHTS = { active: 'ok', expired: 'off', revoked: 'bad' };
const DAYS = [['', 'Never'], ['1', 'In a day'], ['7', 'In 7 days'], ['30', 'In 30 days'], ['90', 'In 90 days'], ['365', 'In a year']];
const seconds = (days) => (days === '' ? null : Number(days) * 86_400);
const whole = (text) => (/^\d+$/.test(text.trim()) ? Number(text) : text.trim() === '' ? undefined : -1);

function Create({ accounts, onClose, done }) {
  const [made, setMade] = useState(null);
  if (made) {
    return html`<${Dialog} title="The key is made" onClose=${onClose}>
      <${Secret} name=${`Key ${made.id}`} value=${made.key}>
        <p class="hint">It goes into the header X-API-Key, or the file of <code>tocsin watch --key-file</code>.</p><//>
      <div class="form-actions"><button type="button" class="primary" onClick=${onClose}>I have kept it</button></div>
    <//>`;
  }
  const fields = [
    { name: 'label', label: 'Label', hint: 'A note for yourself' },
    ...(accounts.length ? [{ name: 'account', label: 'Account', kind: 'select', options: [['', 'None'], ...accounts.map((a) => [String(a.id), a.name])], hint: 'Whose it is: the account sees it' }] : []),
    { name: 'tier', label: 'Tier', kind: 'select', options: TIERS, value: 'premium' },
    { name: 'max_connections', label: 'Connections at once', value: '5', mode: 'numeric' },
    { name: 'expires', label: 'Ends', kind: 'select', options: DAYS },
    { name: 'exchanges', label: 'Exchanges', kind: 'checks', options: EXCHANGES, value: [] },
    { name: 'delay_ms', label: 'Hold back, in milliseconds', hint: 'Basic tier only; empty: at once', mode: 'numeric' },
    { name: 'redact', label: 'Withhold title and ticker', kind: 'check', value: false },
  ];
  const send = (values) => post('/admin/v1/keys', {
    label: values.label.trim(),
    tier: values.tier,
    max_connections: whole(values.max_connections),
    allowed_cex: values.exchanges.length ? values.exchanges.join(',') : '*',
    expires_in_secs: seconds(values.expires) ?? undefined,
    delay_ms: whole(values.delay_ms),
    redact: values.redact || undefined,
    account: values.account ? Number(values.account) : undefined,
  });
  return html`<${Dialog} title="Make a key" onClose=${onClose}>
    <${Form} fields=${fields} send=${send} submit="Make key" onCancel=${onClose} done=${(answer) => { setMade(answer); done(); }} /><//>`;
}

function Expiry({ key_, onClose, done }) {
  const fields = [{ name: 'expires', label: 'New end', kind: 'select', options: DAYS, hint: 'Connections that are open follow it' }];
  const send = ({ expires }) => ask('PATCH', `/admin/v1/keys/${key_.id}`, { expires_in_secs: seconds(expires) });
  return html`<${Dialog} title=${`End of key ${key_.id}`} onClose=${onClose} className="small">
    <${Form} fields=${fields} send=${send} submit="Set end" onCancel=${onClose} done=${() => { onClose(); done(); }} /><//>`;
}

function Row({ one, administrator, owner, open }) {
  const name = one.label || `key ${one.id}`;
  return html`
    <tr>
      <td class="num">${one.id}</td>
      <th scope="row">${one.label || html`<span class="none">–</span>`}${owner && html`<span class="sub">${owner}</span>`}</th>
      <td><${Light} kind=${LIGHTS[one.state]}>${one.state}<//></td>
      <td class="lo">${one.tier}</td>
      <td class="num">${one.connections === undefined || one.connections === null
        ? count(one.max_connections)
        : html`${count(one.connections)} of ${count(one.max_connections)} <${Meter} value=${one.connections} most=${one.max_connections} label=${`Connections of ${name}`} />`}</td>
      <td class="lo title">${listed((one.allowed_cex || '*').split(','))}${one.delay_ms ? ` · ${count(one.delay_ms)} ms late` : ''}${one.redact ? ' · redacted' : ''}</td>
      <td class="num lo"><${Time} at=${one.created_at} /></td>
      <td class="num">${one.expires_at ? html`<${Time} at=${one.expires_at} />` : 'never'}</td>
      ${administrator && html`<td class="row-actions">${one.state !== 'revoked' && html`
        <button type="button" aria-label=${`Set end of ${name}`} onClick=${() => open('expiry', one)}>Set end</button>
        <button type="button" class="danger-quiet" aria-label=${`Revoke ${name}`} onClick=${() => open('revoke', one)}>Revoke</button>`}</td>`}
    </tr>`;
}

export function Keys({ who }) {
  const administrator = who.role === 'administrator';
  const [dialog, setDialog] = useState(null);
  const loaded = useLoaded(async () => ({ keys: await getAll(administrator ? '/admin/v1/keys' : '/v1/keys', 'keys') }));
  const accounts = useLoaded(async () => (administrator ? getAll('/admin/v1/accounts', 'accounts') : []));
  useEvery(10_000, loaded.reload);
  const { value, error, reload } = loaded;
  const owner = (id) => (accounts.value || []).find((account) => account.id === id)?.name;
  const close = () => setDialog(null);
  const head = [
    { text: 'No.', cls: 'num' }, 'Label', 'State', { text: 'Tier', cls: 'lo' }, { text: 'Connections', cls: 'num' }, { text: 'Exchanges', cls: 'lo' },
    { text: 'Made', cls: 'num lo' }, { text: 'Ends', cls: 'num' }, ...(administrator ? [{ text: 'Actions', hidden: true }] : []),
  ];
  const make = administrator && html`<button type="button" class="primary" onClick=${() => setDialog({ kind: 'create' })}>Make a key</button>`;
  return html`
    <${PageHead} title="Keys" actions=${make}>${administrator
      ? 'What clients of the feed connect with. A key is shown once, when it is made.'
      : 'What your clients connect to the feed with. For another one, ask who runs this service.'}<//>
    ${error && html`<${Failure} error=${error} retry=${reload} />`}
    ${!value && !error && html`<${Loading} what="keys" rows=${4} />`}
    ${value && value.keys.length === 0 && html`<${Empty} title="There is no key yet">${administrator
      ? 'Make one: clients of the feed connect with it.'
      : 'Ask who runs this service for one.'}<//>`}
    ${value && value.keys.length > 0 && html`<${Panel} title="All keys" id="keys-all" wide=${true} note=${count(value.keys.length)}>
      <${Table} name="Keys" head=${head}>${value.keys.map((one) => html`
        <${Row} key=${one.id} one=${one} administrator=${administrator} owner=${administrator && owner(one.account)} open=${(kind, key_) => setDialog({ kind, key_ })} />`)}<//><//>`}
    ${dialog && dialog.kind === 'create' && html`<${Create} accounts=${accounts.value || []} onClose=${close} done=${reload} />`}
    ${dialog && dialog.kind === 'expiry' && html`<${Expiry} key_=${dialog.key_} onClose=${close} done=${reload} />`}
    ${dialog && dialog.kind === 'revoke' && html`<${Confirm} title=${`Revoke key ${dialog.key_.id}`} submit="Revoke for ever" onClose=${close}
      send=${() => post(`/admin/v1/keys/${dialog.key_.id}/revoke`)} done=${() => { close(); reload(); }}>
      <p>Its connections close at once. A revoked key cannot be used again.</p><//>`}`;
}
