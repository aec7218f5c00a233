// Each source: whether it is heard, when it was last asked and had something, and what its requests cost.

import { html } from '/assets/vendor/preact-htm.js';
import { live, rate, useLive } from '../live.js';
import { Empty, Light, Loading, PageHead, Panel, Table, Time } from '../parts.js';
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
        <div class="grid thirds">${sources.map((source) => html`<${Details} key=${source.name} source=${source} />`)}</div>`}`;
}
