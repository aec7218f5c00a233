// The last announcements as they go out, the time each stage takes, and what needs attention.

import { html, useState } from '/assets/vendor/preact-htm.js';
import { get } from '../api.js';
import { live, rate, reloadHistory, useDeliveries, useLive } from '../live.js';
import { Empty, Failure, Figure, Light, Loading, PageHead, Panel, Table, Time, useEvery, useLoaded, useSettled } from '../parts.js';
import { Stages } from '../charts.js';
import { count, exchange, nanos, percentile, perSecond, short, source as sourceName, words } from '../format.js';
import { Warnings } from './warnings.js';

/** Announcements whose times the stages are made of. */
const STAGE_SAMPLE = 100;
/** Rows of the list, and when more are asked for. */
const ROWS = 12;
const MORE_ROWS = 100;

const us = (later, earlier) => (later && earlier ? (later - earlier) * 1e3 : null);

/** Median and 99th percentile of what `read` finds in the announcements. */
function over(list, read) {
  const known = list.map(read).filter((ns) => ns !== null && ns >= 0);
  return { p50: percentile(known, 50), p99: percentile(known, 99) };
}

function stageRows(announcements, status) {
  const news = announcements.filter((a) => a.dispatchTimestampUs && a.source !== 'manual').slice(0, STAGE_SAMPLE);
  const distribution = (d, unit) => (d && d.count ? { p50: d.p50 * unit, p99: d.p99 * unit } : { p50: null, p99: null });
  const own = [
    { name: 'Published to read', note: 'From the time the exchange states to the last byte of its answer. Its clock is its own.',
      ...over(news, (a) => us(a.receivedTimestampUs, a.publishTimestampUs)) },
    { name: 'Read to new', note: 'Parsed, compared with what is known', ...over(news, (a) => us(a.detectedTimestampUs, a.receivedTimestampUs)) },
    { name: 'New to classified', note: 'Type and tickers', ...over(news, (a) => us(a.classifiedTimestampUs, a.detectedTimestampUs)) },
    { name: 'Classified to sent', note: 'Serialized, handed over, fan-out begun', ...over(news, (a) => us(a.dispatchTimestampUs, a.classifiedTimestampUs)) },
  ];
  if (!status) return own;
  return [
    ...own,
    { name: 'First subscriber', note: 'From the start of a fan-out to the first write', ...distribution(status.feed.fanout_first_ns, 1) },
    { name: 'Last subscriber', note: 'From the start of a fan-out to the last write', ...distribution(status.feed.fanout_last_ns, 1) },
    { name: 'Webhook written', note: 'From the event to the request on the wire', ...distribution(status.webhooks.first_write_ns, 1) },
    { name: 'Webhook answered', note: 'From there to the first byte of the answer', ...distribution(status.webhooks.first_byte_us, 1e3) },
  ];
}

const KIND = {
  spot_listing: 'listing', futures_listing: 'listing', spot_delisting: 'delisting', futures_delisting: 'delisting', not_listing: 'other',
};

export function Announcement({ a }) {
  const engine = us(a.dispatchTimestampUs, a.receivedTimestampUs);
  const fresh = a.arrived && Date.now() - a.arrived < 4000;
  return html`
    <tr class=${fresh ? 'fresh' : ''}>
      <td class="num"><${Time} at=${a.detectedTimestampUs / 1000} millis=${true} us=${a.detectedTimestampUs} /></td>
      <td>${exchange(a.publisher)}</td>
      <td><span class=${`tag ${KIND[a.listingType] || 'other'}`}>${words(a.listingType)}</span></td>
      <td class="ticker">${a.ticker || html`<span class="none">–</span>`}</td>
      <td class="title lo" title=${a.title}>${a.title}</td>
      <td class="num lo">${nanos(us(a.detectedTimestampUs, a.publishTimestampUs))}</td>
      <td class="num">${nanos(engine)}</td>
    </tr>`;
}

function Announcements() {
  const { announcements, announcementsKnown, historyError } = live;
  const [more, setMore] = useState(false);
  const head = ['Detected', 'Exchange', 'Type', 'Ticker', { text: 'Title', cls: 'lo' }, { text: 'Since published', cls: 'num lo' }, { text: 'Read to sent', cls: 'num' }];
  return html`
    <${Panel} title="Last announcements" id="announcements" wide=${true} note="as they go out">
      ${!announcementsKnown && html`<${Loading} what="announcements" rows=${6} />`}
      ${historyError && !announcements.length && html`<${Failure} error=${{ message: historyError }} />`}
      ${announcementsKnown && !historyError && !announcements.length && html`<${Empty} title="No announcement yet">The next one appears here by itself.<//>`}
      ${announcements.length > 0 && html`<${Table} name="Last announcements" head=${head} className="announcements stacked">
        ${announcements.slice(0, more ? MORE_ROWS : ROWS).map((a) => html`<${Announcement} key=${`${a.epoch}:${a.seq}`} a=${a} />`)}<//>`}
      ${announcements.length > ROWS && html`<div class="pager"><button type="button" aria-expanded=${more} onClick=${() => setMore(!more)}>${more ? 'Show fewer' : 'Show more'}</button></div>`}
    <//>`;
}

const LIGHTS = { live: 'ok', degraded: 'warn', down: 'bad' };
export const sourceLight = (state) => LIGHTS[state] || 'off';

function SourceLights({ sources }) {
  return html`
    <${Panel} title="Sources" id="sources-lights" note=${html`<a href="#/sources">details</a>`}>
      ${sources.length === 0 && html`<${Empty} title="No source is switched on">Name one in the configuration, section [sources].<//>`}
      <ul class="lights">${sources.map((source) => html`
        <li><${Light} kind=${sourceLight(source.state)}>${sourceName(source.name)}<//>
          <span class="dim">${words(source.state)}</span>
          <span class="num dim"><${Time} at=${source.last_poll_us && source.last_poll_us / 1000} relative=${true} us=${source.last_poll_us} /></span></li>`)}</ul>
    <//>`;
}

export function Overview({ who }) {
  return who.role === 'administrator' ? html`<${Administrator} />` : html`<${Customer} who=${who} />`;
}

function Administrator() {
  const { status, announcements } = useLive();
  return html`
    <${PageHead} title="Overview" />
    <${Warnings} />
    ${status ? html`<${Figures} status=${status} />` : html`<${Loading} what="the counters" rows=${1} />`}
    <div class="grid">
      <${Announcements} />
      <${Panel} title="Stages" id="stages" note=${`last ${STAGE_SAMPLE} announcements; counters since the start`}>
        <${Stages} rows=${stageRows(announcements, status)} />
      <//>
      ${status && html`<${SourceLights} sources=${status.sources} />`}
    </div>`;
}

function Figures({ status }) {
  const { feed, webhooks, sources } = status;
  const alive = sources.filter((source) => source.state === 'live').length;
  return html`
    <dl class="figures">
      <${Figure} name="Subscribers" value=${count(feed.connections)} note=${`${short(feed.joins)} joined`} />
      <${Figure} name="Announcements" value=${count(feed.announcements)} note="since the start" />
      <${Figure} name="Last subscriber, p99" value=${nanos(feed.fanout_last_ns.count ? feed.fanout_last_ns.p99 : null)} note="of a fan-out" />
      <${Figure} name="Messages" value=${perSecond(rate((s) => s.feed.messages))} unit="/s" note=${`${short(feed.messages)} in all`} />
      <${Figure} name="Webhooks delivered" value=${short(webhooks.delivered)} note=${`${count(webhooks.pending)} wait`} />
      <${Figure} name="Sources live" value=${`${alive}/${sources.length}`} kind=${alive < sources.length ? 'attention' : ''} />
    </dl>`;
}

function Customer({ who }) {
  useLive();
  const usage = useLoaded(() => get('/v1/usage'));
  useDeliveries(useSettled(1000, usage.reload));
  useEvery(10_000, () => {
    usage.reload();
    // Without webhooks nothing is told live: keys may be delayed.
    if (!who.account.webhooks) reloadHistory();
  });
  return html`
    <${PageHead} title="Overview" />
    <${Warnings} />
    ${usage.error && html`<${Failure} error=${usage.error} retry=${usage.reload} />`}
    ${!usage.value && !usage.error && html`<${Loading} what="your usage" rows=${1} />`}
    ${usage.value && html`<${Usage} usage=${usage.value} who=${who} />`}
    <div class="grid"><${Announcements} /></div>`;
}

function Usage({ usage }) {
  const day = usage.deliveries_24h;
  const connections = usage.keys.reduce((sum, key) => sum + (key.connections || 0), 0);
  const most = usage.keys.filter((key) => key.state === 'active').reduce((sum, key) => sum + key.max_connections, 0);
  return html`
    <dl class="figures">
      <${Figure} name="Endpoints" value=${`${usage.endpoints.used}/${usage.endpoints.limit}`} note=${`plan ${usage.plan}`} />
      <${Figure} name="Delivered" value=${count(day.delivered)} note="last 24 hours" />
      <${Figure} name="Failed attempts" value=${count(day.failed)} note="last 24 hours" kind=${day.failed ? 'attention' : ''} />
      <${Figure} name="Test events left" value=${count(usage.tests_today.left)} note="today, UTC" />
      <${Figure} name="Registrations left" value=${count(usage.registrations_this_hour.left)} note="this hour" />
      <${Figure} name="Feed connections" value=${`${count(connections)}/${count(most)}`} note=${`${count(usage.keys.length)} keys`} />
    </dl>`;
}
