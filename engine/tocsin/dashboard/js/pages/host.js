// The machine: whether every thread moves, the clock, memory, the store, the certificate.

import { html } from '/assets/vendor/preact-htm.js';
import { useLive } from '../live.js';
import { Light, Loading, PageHead, Panel, Table, Time } from '../parts.js';
import { Counts, Meter } from '../charts.js';
import { bytes, count, micros, short, span } from '../format.js';

const STUCK_US = 2_000_000;

function Facts({ rows }) {
  return html`<dl class="facts">${rows.map(([name, value]) => html`<div><dt>${name}</dt><dd class="num">${value ?? '–'}</dd></div>`)}</dl>`;
}

function Threads({ threads }) {
  const head = ['Thread', 'State', { text: 'Last turn', cls: 'num' }, { text: 'Longest gap', cls: 'num' }];
  return html`<${Table} name="Threads" head=${head}>${threads.map((thread) => html`
    <tr key=${thread.name}>
      <th scope="row" class="mono">${thread.name}</th>
      <td>${thread.still_us === null
        ? html`<${Light} kind="off">not watched<//>`
        : html`<${Light} kind=${thread.still_us > STUCK_US ? 'bad' : 'ok'}>${thread.still_us > STUCK_US ? 'stands still' : 'moves'}<//>`}</td>
      <td class="num">${thread.still_us === null ? '–' : `${micros(thread.still_us)} ago`}</td>
      <td class="num">${thread.still_us === null ? '–' : micros(thread.longest_gap_us)}</td>
    </tr>`)}<//>`;
}

function Clock({ host }) {
  const { machine } = host;
  const skew = host.arrived * 1000 - host.now_us;
  return html`<${Facts} rows=${[
    ['Host', html`<${Time} at=${host.now_us / 1000} millis=${true} us=${host.now_us} />`],
    ['Against this browser', Math.abs(skew) < 1_500_000 ? 'within a second' : `${micros(Math.abs(skew))} ${skew > 0 ? 'behind' : 'ahead'}`],
    ['Clock source', machine.clocksource],
    ['Last set by a time service', machine.clock_synchronized_at ? html`<${Time} at=${machine.clock_synchronized_at} relative=${true} />` : 'not known'],
    ['Service has run for', span(host.uptime_secs)],
  ]} />`;
}

function Machine({ machine }) {
  const used = machine.memory_bytes - machine.memory_available_bytes;
  return html`
    <${Facts} rows=${[
      ['Name', machine.name], ['Kernel', machine.kernel], ['Cores', count(machine.cores)],
      ['Load, 1, 5, 15 min', machine.load && machine.load.map((n) => n.toFixed(2)).join('  ')],
      ['Memory in use', html`${bytes(used)} of ${bytes(machine.memory_bytes)} <${Meter} value=${used} most=${machine.memory_bytes} label="Memory in use" />`],
      ['This service', bytes(machine.resident_bytes)], ['Of it locked', bytes(machine.locked_bytes)],
    ]} />`;
}

function Store({ host, journal }) {
  const { store } = host;
  return html`
    <${Facts} rows=${[
      ['Database', store && bytes(store.database_bytes)], ['Write-ahead log', store && bytes(store.log_bytes)], ['Free beside it', store && bytes(store.free_bytes)],
      ['Rows written', short(journal.rows)], ['In commits', short(journal.commits)], ['Waiting now', count(journal.backlog_rows)],
    ]} />
    <h3>Trouble</h3>
    <${Counts} empty="None." format=${short} rows=${[
      ['commits refused', journal.failures], ['rows rejected', journal.rejected], ['found in shared memory', journal.recovered],
      ['dropped at a full ring', journal.ring_dropped], ['shared memory full', journal.shared_memory_full],
    ]} />`;
}

function Certificate({ host }) {
  const end = host.certificate_expires_at;
  if (!end) return html`<p class="quiet-text">Neither feed nor admin listener serve TLS here.</p>`;
  const left = (Date.parse(end) - Date.now()) / 1000;
  return html`<${Facts} rows=${[
    ['Expires', html`<${Time} at=${end} />`],
    ['In', html`<${Light} kind=${left <= 0 ? 'bad' : left < 21 * 86_400 ? 'warn' : 'ok'}>${left > 0 ? span(left) : 'expired'}<//>`],
  ]} />`;
}

export function Host() {
  const { status, host } = useLive();
  if (!status || !host) return html`<${PageHead} title="Host and clock" /><${Loading} what="the machine" rows=${4} />`;
  return html`
    <${PageHead} title="Host and clock">Version ${host.version}, start number ${status.epoch} of this data directory.<//>
    <div class="grid">
      <div class="stack">
        <${Panel} title="Threads" id="host-threads"><${Threads} threads=${status.threads} /><//>
        <${Panel} title="Clock" id="host-clock"><${Clock} host=${host} /><//>
        <${Panel} title="Certificate" id="host-certificate"><${Certificate} host=${host} /><//>
      </div>
      <div class="stack">
        <${Panel} title="Store" id="host-store"><${Store} host=${host} journal=${status.journal} /><//>
        <${Panel} title="Machine" id="host-machine"><${Machine} machine=${host.machine} /><//>
      </div>
    </div>`;
}
