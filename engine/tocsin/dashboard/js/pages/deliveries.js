// What was sent where, attempt by attempt, with where the time went; resend.

import { html, useCallback, useState } from '/assets/vendor/preact-htm.js';
import { get, getAll, post } from '../api.js';
import { live, useDeliveries, useLive } from '../live.js';
import { ActionButton, Empty, Failure, Light, Loading, PageHead, Panel, Table, Time, useLoaded, useSettled } from '../parts.js';
import { PhaseBar, PhaseKey, TimeChart } from '../charts.js';
import { count, micros, words } from '../format.js';
import { failure } from '../names.js';
import { base } from './webhooks.js';

/** Endpoints whose logs are put together when none is chosen. */
const TOGETHER = 8;
const LINES = 50;

const HEAD = [
  { text: 'Started', cls: 'num' }, 'Event', 'Result', 'Phases', { text: 'Took', cls: 'num' }, { text: 'Next try', cls: 'num lo' }, { text: 'Actions', hidden: true },
];

function Row({ line, name, resend }) {
  const [told, setTold] = useState(null);
  const send = async () => {
    try {
      await resend(line);
      setTold('Queued');
    } catch (error) {
      setTold(error.message);
    }
  };
  const what = line.purpose === 'event' ? `attempt ${line.attempt}` : line.purpose;
  return html`
    <tr>
      <td class="num"><${Time} at=${line.at} millis=${true} /></td>
      <td>${words(line.type)} <span class="sub">${what}${name ? html` · <a href=${`#/webhooks/${line.endpoint}`}>${name}</a>` : ''}</span></td>
      <td>${line.ok
        ? html`<${Light} kind="ok">delivered${line.status ? `, ${line.status}` : ''}<//>`
        : html`<${Light} kind=${line.next_at ? 'warn' : 'bad'}>${failure(line)}<//>`}
        ${line.detail && html`<span class="sub">${line.detail}</span>`}</td>
      <td class="phase-cell"><${PhaseBar} phases=${line.phases} /></td>
      <td class="num">${micros(line.took_us)}</td>
      <td class="num lo"><${Time} at=${line.next_at} /></td>
      <td class="row-actions">${line.purpose === 'event' && (told
        ? html`<span class="told" role="status">${told}</span>`
        : html`<${ActionButton} onClick=${send} label=${`Resend event ${line.event_id}`}>Resend<//>`)}</td>
    </tr>`;
}

/** Lines of the log. `names`: of endpoints, where several are shown. */
export function DeliveryTable({ lines, names, resend }) {
  if (!lines.length) return html`<${Empty} title="Nothing was sent yet">Send a test event, or wait for the next announcement.<//>`;
  return html`
    <${PhaseKey} />
    <${Table} name="Deliveries" head=${HEAD} className="deliveries stacked">${lines.map((line) => html`
      <${Row} key=${`${line.endpoint || ''}-${line.event_id}-${line.purpose}-${line.attempt}-${line.at}`} line=${line}
        name=${names && (names.get(line.endpoint) || `endpoint ${line.endpoint}`)} resend=${resend} />`)}<//>`;
}

/** How long attempts took, over time, on a logarithmic scale. */
export function Took({ lines }) {
  const timed = lines.filter((line) => line.took_us !== null && line.took_us > 0).slice(0, 200).reverse();
  if (timed.length < 2) return null;
  return html`<${Panel} title="Time to the answer" id="deliveries-took" wide=${true} note="each attempt">
    <${TimeChart} at=${timed.map((line) => Date.parse(line.at))} log=${true} format=${(us) => micros(us)}
      series=${[{ name: 'Took', values: timed.map((line) => line.took_us), points: true }]} label="How long each attempt took" /><//>`;
}

async function load(who, endpoints, chosen) {
  const ids = chosen ? [chosen] : endpoints.slice(0, TOGETHER).map((endpoint) => endpoint.id);
  const pages = await Promise.all(ids.map(async (id) => {
    const { deliveries } = await get(`${base(who)}/${id}/deliveries?limit=${LINES}`);
    return deliveries.map((line) => ({ ...line, endpoint: id }));
  }));
  return pages.flat();
}

const same = (line) => `${line.endpoint}-${line.event_id}-${line.purpose}-${line.attempt}-${line.at}`;

/** Together, newest first, each once. */
function merged(stored, came) {
  const known = new Set(stored.map(same));
  return [...came.filter((line) => !known.has(same(line))), ...stored].sort((a, b) => (a.at < b.at ? 1 : -1)).slice(0, 200);
}

export function Deliveries({ who, at }) {
  useLive();
  const endpoints = useLoaded(() => getAll(base(who), 'webhooks'));
  const chosen = at[1] ? Number(at[1]) : null;
  const all = endpoints.value || [];
  const log = useLoaded(() => (endpoints.value ? load(who, all, chosen) : null), `${chosen}-${all.map((one) => one.id).join()}`);
  const settled = useSettled(1000, log.reload);
  useDeliveries(useCallback(() => settled(), []));
  const error = endpoints.error || log.error;
  const names = new Map(all.map((one) => [one.id, one.label || one.url.replace(/^https:\/\//, '')]));
  const came = live.deliveries.filter((line) => !chosen || line.endpoint === chosen);
  const lines = log.value ? merged(log.value, came) : null;
  const resend = (line) => post(`${base(who)}/${line.endpoint}/deliveries/${line.event_id}/resend`);
  const select = (event) => { location.hash = event.target.value ? `#/deliveries/${event.target.value}` : '#/deliveries'; };
  return html`
    <${PageHead} title="Deliveries">Each attempt, newest first, with where its time went.<//>
    ${error && html`<${Failure} error=${error} retry=${() => { endpoints.reload(); log.reload(); }} />`}
    ${!endpoints.value && !error && html`<${Loading} what="deliveries" rows=${5} />`}
    ${endpoints.value && all.length === 0 && html`<${Empty} title="There is no endpoint yet"><a href="#/webhooks">Add the URL of your receiver</a> first.<//>`}
    ${all.length > 0 && html`
      <div class="filters"><label for="endpoint">Endpoint</label>
        <select id="endpoint" onChange=${select}>
          <option value="" selected=${!chosen}>${all.length > TOGETHER ? `The first ${TOGETHER}, and what comes live` : 'All'}</option>
          ${all.map((one) => html`<option value=${one.id} selected=${one.id === chosen}>${names.get(one.id)}</option>`)}</select>
        ${lines && html`<span class="note">${count(lines.length)} attempts</span>`}</div>
      ${lines && html`<${Took} lines=${lines} />
        <${Panel} title="Attempts" id="deliveries-all" wide=${true}><${DeliveryTable} lines=${lines} names=${chosen ? null : names} resend=${resend} /><//>`}`}`;
}
