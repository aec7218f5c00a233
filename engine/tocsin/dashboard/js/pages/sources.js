// Each source: whether it is heard, when it was last asked and had something, and what its requests cost.

import { html } from '/assets/vendor/preact-htm.js';
import { get } from '../api.js';
import { live, rate, useLive } from '../live.js';
import { Empty, Light, Loading, PageHead, Panel, Table, Time, useEvery, useLoaded } from '../parts.js';
import { Counts, Meter, TimeChart } from '../charts.js';
import { bytes, count, perSecond, short, source as sourceName, words } from '../format.js';
import { sourceLight } from './overview.js';

const at = (us) => (us ? us / 1000 : null);
const of = (name) => (status) => status.sources.find((source) => source.name === name) || {};
const failed = (source) => Object.values(source.failures).reduce((sum, n) => sum + n, 0);

function Row({ source }) {
  const now = rate((status) => of(source.name)(status).polls || 0, 10);
  const budget = source.requests_per_second.within;
  const errors = failed(source);
  return html`
    <tr>
      <th scope="row">${sourceName(source.name)}</th>
      <td><${Light} kind=${sourceLight(source.state)}>${words(source.state)}<//></td>
      <td class="num"><${Time} at=${at(source.last_poll_us)} relative=${true} us=${source.last_poll_us} /></td>
      <td class="num"><${Time} at=${at(source.last_item_us)} relative=${true} us=${source.last_item_us} /></td>
      <td class="num">${count(source.won)}</td>
      <td class=${`num${errors ? ' attention' : ''}`}>${short(errors)}</td>
      <td class="num">${count(source.connections)}</td>
      <td class="budget"><span class="num">${perSecond(now)} of ${perSecond(budget)} /s</span>
        <${Meter} value=${now || 0} most=${budget} warnAt=${1.2} fullAt=${1.5} label=${`Requests a second of ${sourceName(source.name)}`} /></td>
    </tr>`;
}

const HEAD = [
  'Source', 'State', { text: 'Last poll', cls: 'num' }, { text: 'Last item', cls: 'num' }, { text: 'Wins', cls: 'num' },
  { text: 'Errors', cls: 'num' }, { text: 'Connections', cls: 'num' }, 'Request budget',
];

/** Snapshots a rate is taken over: what one second alone shows jumps about. */
const OVER = 5;

/** Requests a second over time, one line a source. */
function Requests({ sources }) {
  const { samples } = live;
  const lines = sources.map((source) => ({
    name: sourceName(source.name),
    values: samples.map((sample, index) => {
      const before = samples[index - OVER];
      if (!before) return null;
      const grown = of(source.name)(sample.status).polls - of(source.name)(before.status).polls;
      return Math.max(0, grown) / ((sample.at - before.at) / 1000);
    }),
  }));
  if (samples.length < OVER + 2) return html`<p class="quiet-text chart-wait">The line begins after a few seconds.</p>`;
  return html`<${TimeChart} at=${samples.map((sample) => sample.at)} series=${lines} span=${300} format=${(v) => `${perSecond(v)}/s`}
    label="Requests a second to each source, over the last minutes" />`;
}

function Details({ source }) {
  const answers = [
    ['unchanged (304)', source.not_modified], ['identical', source.identical], ['only counters changed', source.only_noise],
    ['parsed', source.parsed], ['late', source.late], ['rows skipped', source.rows_skipped],
  ];
  const connections = [
    ['opened', source.connections_opened], ['resumed', source.tls_resumed], ['rotated', source.connections_rotated], ['lapsed', source.connections_lapsed],
  ];
  return html`
    <${Panel} title=${sourceName(source.name)} id=${`source-${source.name.replace(/\W/g, '-')}`} note=${`${short(source.polls)} polls, ${bytes(source.bytes)}`}>
      <h3>Answers</h3><${Counts} rows=${answers} empty="None yet." format=${short} />
      <h3>Connections</h3><${Counts} rows=${connections} empty="None yet." format=${short} />
      <h3>Errors</h3><${Counts} rows=${Object.entries(source.failures)} words=${words} empty="None." format=${short} />
    <//>`;
}

const MARKETS_HEAD = [
  'List', 'State', { text: 'Last answer', cls: 'num' }, { text: 'Instruments', cls: 'num' }, { text: 'Answers', cls: 'num' },
  { text: 'Errors', cls: 'num' }, 'Against it',
];

/** Each list of instruments or volumes that is watched. */
function Markets() {
  const loaded = useLoaded(() => get('/admin/v1/markets'));
  useEvery(5_000, () => loaded.reload());
  if (!loaded.value) return html`<${Loading} what="the markets" rows=${4} />`;
  return html`<${Table} name="Markets" head=${MARKETS_HEAD}>${loaded.value.requests.map((of) => html`
    <tr key=${`${of.source} ${of.request}`}>
      <th scope="row">${sourceName(of.source)} ${words(of.request)}</th>
      <td><${Light} kind=${sourceLight(of.state)}>${words(of.state)}<//></td>
      <td class="num"><${Time} at=${at(of.last_answer_us)} relative=${true} us=${of.last_answer_us} /></td>
      <td class="num">${count(of.instruments || of.volumes)}</td>
      <td class="num">${short(of.answers)}</td>
      <td class=${`num${failed(of) ? ' attention' : ''}`}>${short(failed(of))}</td>
      <td>${of.problem || '–'}</td>
    </tr>`)}<//>`;
}

const MARKET_EVENTS_HEAD = [{ text: 'Seen', cls: 'num' }, 'Exchange', 'Event', 'Symbol', 'Kind', 'State'];

/** The last things that markets told. */
function MarketEvents() {
  const loaded = useLoaded(() => get('/admin/v1/markets/events?limit=20'));
  useEvery(5_000, () => loaded.reload());
  if (!loaded.value) return html`<${Loading} what="market events" rows=${4} />`;
  const { events } = loaded.value;
  if (!events.length) return html`<p class="quiet-text">Nothing yet.</p>`;
  return html`<${Table} name="Market events" head=${MARKET_EVENTS_HEAD}>${events.map((event) => html`
    <tr key=${event.id}>
      <td class="num"><${Time} at=${at(event.receivedUs)} relative=${true} us=${event.receivedUs} /></td>
      <td>${words(event.publisher)}</td><td>${words(event.event)}</td><th scope="row" class="mono">${event.symbol}</th>
      <td>${words(event.instrument)}</td><td>${event.state || '–'}</td>
    </tr>`)}<//>`;
}

export function Sources() {
  const { status } = useLive();
  if (!status) return html`<${PageHead} title="Sources" /><${Loading} what="the sources" rows=${4} />`;
  const { sources } = status;
  return html`
    <${PageHead} title="Sources">Where announcements are found. A win is an announcement found in time to be news.<//>
    ${sources.length === 0
      ? html`<${Empty} title="No source is switched on">Name one in the configuration, section [sources]. Manual alerts work without.<//>`
      : html`
        <${Panel} title="State" id="sources-state" wide=${true}>
          <${Table} name="Sources" head=${HEAD}>${sources.map((source) => html`<${Row} key=${source.name} source=${source} />`)}<//>
        <//>
        <${Panel} title="Requests" id="sources-requests" wide=${true} note="a second, last five minutes"><${Requests} sources=${sources} /><//>
        <div class="grid thirds">${sources.map((source) => html`<${Details} key=${source.name} source=${source} />`)}</div>`}
    ${status.market && html`
      <${Panel} title="Markets" id="sources-markets" wide=${true} note="lists of instruments and volumes"><${Markets} /><//>
      <${Panel} title="Market events" id="sources-market-events" wide=${true} note="the last 20"><${MarketEvents} /><//>`}`;
}
