// The feed: who is connected and how fast they are served, why connections ended, who was refused.

import { html, useState } from '/assets/vendor/preact-htm.js';
import { get, query } from '../api.js';
import { live, rate, useLive } from '../live.js';
import { Empty, Failure, Figure, Light, Loading, PageHead, Panel, Table, Time, useEvery, useLoaded } from '../parts.js';
import { Counts, TimeChart } from '../charts.js';
import { bytes, count, micros, nanos, perSecond, short, words } from '../format.js';
import { EXCHANGES, shown } from '../names.js';

/** Types of announcements there are. */
const TYPES = 5;
/** Subscribers of a page. */
const PAGE = 50;

const CLOSES = {
  key_expired: 'key expired', key_revoked: 'key revoked', too_slow: 'too slow (1008)', rate_limit_exceeded: 'rate limit (1008)',
  control_flood: 'control frames (1008)', frame_too_large: 'frame too large (1009)', protocol_error: 'protocol error (1002)',
  invalid_utf8: 'invalid UTF-8 (1007)', pong_timeout: 'no pong (1001)', restart: 'restart (1012)', peer_closed: 'closed by client',
  peer_gone: 'client vanished', socket_error: 'socket error',
};

function Figures({ status }) {
  const { feed, accept } = status;
  return html`
    <dl class="figures">
      <${Figure} name="Connections" value=${count(feed.connections)} note=${`${count(accept.handshakes_in_progress)} handshakes`} />
      <${Figure} name="Messages" value=${perSecond(rate((s) => s.feed.messages))} unit="/s" note=${`${short(feed.messages)} in all`} />
      <${Figure} name="Sent" value=${bytes(feed.bytes)} />
      <${Figure} name="Round trip, p50" value=${micros(feed.rtt_us.count ? feed.rtt_us.p50 : null)} note=${`p99 ${micros(feed.rtt_us.count ? feed.rtt_us.p99 : null)}`} />
      <${Figure} name="Full sockets" value=${short(feed.blocked)} note="continued later" />
      <${Figure} name="Dropped" value=${count(feed.ring_dropped)} kind=${feed.ring_dropped ? 'attention' : ''} />
    </dl>`;
}

function Fanout({ feed }) {
  const row = (name, d) => html`<tr><th scope="row">${name}</th>${['p50', 'p99', 'max'].map((p) => html`
    <td class="num">${nanos(d.count ? d[p] : null)}</td>`)}<td class="num">${short(d.count)}</td></tr>`;
  return html`
    <${Table} name="Fan-out" head=${['To', { text: 'p50', cls: 'num' }, { text: 'p99', cls: 'num' }, { text: 'Max', cls: 'num' }, { text: 'Fan-outs', cls: 'num' }]}>
      ${row('first subscriber', feed.fanout_first_ns)}${row('last subscriber', feed.fanout_last_ns)}
    <//>`;
}

function Connections() {
  const { samples } = live;
  if (samples.length < 3) return html`<p class="quiet-text chart-wait">The line begins after a few seconds.</p>`;
  return html`<${TimeChart} at=${samples.map((one) => one.at)} span=${300} whole=${true} format=${(v) => short(Math.round(v))}
    series=${[{ name: 'Connections', values: samples.map((one) => one.status.feed.connections) }]}
    label="Connections over the last minutes" />`;
}

const HEAD = [
  { text: 'No.', cls: 'num lo' }, 'Key', { text: 'Tier', cls: 'lo' }, { text: 'Address', cls: 'lo' }, { text: 'Filter', cls: 'lo' },
  { text: 'Connected', cls: 'num lo' }, 'State', { text: 'Lag', cls: 'num' }, { text: 'RTT', cls: 'num' },
];

const STATES = { live: ['ok', 'live'], blocked: ['warn', 'socket full'], history: ['wait', 'catching up'], closing: ['off', 'closing'] };

/** What a subscriber asked for, shorter where it is everything. */
function filterText({ exchanges, types, tickers }) {
  const parts = [];
  if (exchanges.length < EXCHANGES.length) parts.push(exchanges.map(shown).join(', ') || 'no exchange');
  if (types.length < TYPES) parts.push(types.map(words).join(', ') || 'no type');
  if (tickers !== null) parts.push(`${tickers} tickers`);
  return parts.join(' · ') || 'everything';
}

function Subscriber({ one }) {
  const [kind, text] = STATES[one.state] || ['off', one.state];
  return html`
    <tr>
      <td class="num lo">${one.id}</td>
      <td>${one.label || html`<span class="dim">key</span>`} <span class="dim">#${one.key_id}</span></td>
      <td class="lo">${one.tier || '–'}</td>
      <td class="lo">${one.address || html`<span class="dim">exempt</span>`}</td>
      <td class="lo title">${filterText(one.filter)}${one.delay_ms ? ` · ${count(one.delay_ms)} ms late` : ''}</td>
      <td class="num lo"><${Time} at=${one.connected_at} relative=${true} /></td>
      <td><${Light} kind=${kind}>${text}<//></td>
      <td class=${`num${one.lag_messages ? ' attention' : ''}`}>${count(one.lag_messages)}</td>
      <td class="num">${micros(one.rtt_us)}</td>
    </tr>`;
}

function Subscribers() {
  const [after, setAfter] = useState([null]);
  const from = after[after.length - 1];
  const page = useLoaded(() => get(`/admin/v1/subscribers${query({ limit: PAGE, after: from })}`), String(from));
  useEvery(3000, page.reload);
  const { value, error } = page;
  const next = value && value.next;
  return html`
    <${Panel} title="Subscribers" id="feed-subscribers" wide=${true} note=${value ? `${count(value.total)} connected` : ''}>
      ${error && html`<${Failure} error=${error} retry=${page.reload} />`}
      ${!value && !error && html`<${Loading} what="subscribers" rows=${4} />`}
      ${value && value.subscribers.length === 0 && html`<${Empty} title="Nobody is connected">A client connects with a key: see Keys.<//>`}
      ${value && value.subscribers.length > 0 && html`
        <${Table} name="Subscribers" head=${HEAD}>${value.subscribers.map((one) => html`<${Subscriber} key=${one.id} one=${one} />`)}<//>`}
      ${value && (after.length > 1 || next) && html`<div class="pager">
        <button type="button" disabled=${after.length === 1} onClick=${() => setAfter(after.slice(0, -1))}>Before</button>
        <button type="button" disabled=${!next} onClick=${() => setAfter([...after, next])}>Next</button></div>`}
    <//>`;
}

export function Feed() {
  const { status } = useLive();
  if (!status) return html`<${PageHead} title="Feed" /><${Loading} what="the feed" rows=${4} />`;
  return html`
    <${PageHead} title="Feed" />
    <${Figures} status=${status} />
    <div class="grid">
      <${Panel} title="Connections" id="feed-connections" note="last five minutes"><${Connections} /><//>
      <${Panel} title="Fan-out" id="feed-fanout" note="from its start, since the service started"><${Fanout} feed=${status.feed} /><//>
      <${Panel} title="Closes by reason" id="feed-closes"><${Counts} rows=${Object.entries(status.feed.closed)} words=${(n) => CLOSES[n] || words(n)} empty="No connection has ended." format=${short} /><//>
      <${Panel} title="Refused by reason" id="feed-refused"><${Counts} rows=${Object.entries(status.accept.refused)} words=${words} empty="Nobody was refused." format=${short} /><//>
    </div>
    <${Subscribers} />`;
}
