// Charts: lines over time by uPlot, and small ones of plain elements. Colours come from the style sheet,
// so that a chart follows light and dark. Every chart has a text that says the same.

import { html, useEffect, useRef } from '/assets/vendor/preact-htm.js';
import { nanos } from './format.js';

/** Seconds between two marks of the time axis. */
const TIME_STEPS = [1, 5, 10, 15, 30, 60, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400];

/** Between two marks of an axis of things that are counted. */
const WHOLE_STEPS = [1, 2, 5].flatMap((n) => [0, 1, 2, 3, 4, 5, 6].map((power) => n * 10 ** power)).sort((a, b) => a - b);

/** Colours of lines, in order. */
const LINES = ['--accent', '--phase-dns', '--phase-tcp', '--phase-tls', '--phase-write'];

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const pad = (n) => String(n).padStart(2, '0');

/** Times of the axis in the viewer's zone, as short as they can be told apart. */
function timeMarks(_, marks) {
  const close = marks.length > 1 && marks[1] - marks[0] < 60;
  return marks.map((secs) => {
    const d = new Date(secs * 1000);
    const text = `${pad(d.getHours())}:${pad(d.getMinutes())}`;
    return close ? `${text}:${pad(d.getSeconds())}` : text;
  });
}

/** The last so many seconds up to the newest; without a span from the oldest to the newest, with room. */
function timeRange(span) {
  return (_, min, max) => {
    if (span) return [max - span, max];
    const room = Math.max((max - min) * 0.03, 1);
    return [min - room, max + room];
  };
}

/**
 * A line over time. `at`: milliseconds; `series`: `{name, values, points}`; `span`: seconds that are shown;
 * `whole`: things that are counted.
 */
export function TimeChart({ at, series, height = 150, format = (n) => n, label, log = false, span, whole = false }) {
  const place = useRef(null);
  const plot = useRef(null);
  useEffect(() => {
    const build = () => {
      if (plot.current) plot.current.destroy();
      const line = (one, index) => ({
        label: one.name,
        stroke: css(LINES[index % LINES.length]),
        width: 1.5,
        fill: series.length === 1 && !log ? css('--accent-wash') : undefined,
        points: { show: one.points === true, size: 5, fill: css('--accent') },
        paths: one.points ? () => null : undefined,
        value: (_, v) => (v === null || v === undefined ? '–' : format(v)),
      });
      const axis = { stroke: css('--text-3'), grid: { stroke: css('--hair'), width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif' };
      plot.current = new window.uPlot(
        {
          width: place.current.clientWidth || 300,
          height,
          padding: [8, 8, 0, 0],
          cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
          legend: { show: series.length > 1, live: false },
          scales: { x: { time: true, range: timeRange(span) }, y: { distr: log ? 3 : 1, range: log ? undefined : (_, min, max) => [Math.min(0, min), max > 0 ? max * 1.15 : 1] } },
          axes: [{ ...axis, size: 28, space: 80, incrs: TIME_STEPS, values: timeMarks }, { ...axis, size: 64, incrs: whole ? WHOLE_STEPS : undefined, values: (_, list) => list.map((v) => (v === null ? '' : format(v))) }],
          series: [{ value: (_, v) => v }, ...series.map(line)],
        },
        [at.map((ms) => ms / 1000), ...series.map((one) => one.values)],
        place.current,
      );
    };
    build();
    const resized = new ResizeObserver(() => {
      const width = place.current && place.current.clientWidth;
      if (plot.current && width && Math.abs(width - plot.current.width) > 1) plot.current.setSize({ width, height });
    });
    resized.observe(place.current);
    window.addEventListener('tocsin-theme', build);
    return () => {
      window.removeEventListener('tocsin-theme', build);
      resized.disconnect();
      plot.current.destroy();
      plot.current = null;
    };
  }, [series.map((one) => one.name).join()]);
  useEffect(() => {
    if (plot.current) plot.current.setData([at.map((ms) => ms / 1000), ...series.map((one) => one.values)]);
  });
  return html`<div class="chart" role="img" aria-label=${label}><div ref=${place} class=${`plot plot-${height}`}></div></div>`;
}

/** Where a span lies between 1 µs and 100 s, on a logarithmic scale, from 0 to 100. */
function place(ns) {
  const decades = Math.log10(Math.max(ns, 100)) - 2;
  return Math.max(0, Math.min(100, (decades / 9) * 100));
}

const MARKS = [[1e3, '1 µs'], [1e6, '1 ms'], [1e9, '1 s']];

/** Stages of the way, each with its median and its 99th percentile. `rows`: `{name, p50, p99, note}` in ns. */
export function Stages({ rows }) {
  return html`
    <div class="stages">
      <div class="stage-scale" aria-hidden="true"><span></span><div class="stage-track">${MARKS.map(
        ([at, text]) => html`<span class="mark" style=${{ left: `${place(at)}%` }}>${text}</span>`,
      )}</div><span class="stage-head">p50</span><span class="stage-head">p99</span></div>
      <dl>${rows.map(({ name, p50, p99, note }) => {
        const known = p50 !== null && p50 !== undefined;
        const from = known ? place(p50) : 0;
        const to = known ? Math.max(place(p99 ?? p50), from + 0.8) : 0;
        return html`
          <div class="stage">
            <dt title=${note}>${name}</dt>
            <dd class="stage-track" aria-hidden="true">${MARKS.map(([at]) => html`<i class="grid" style=${{ left: `${place(at)}%` }}></i>`)}
              ${known && html`<i class="range" style=${{ left: `${from}%`, width: `${to - from}%` }}></i><i class="dot" style=${{ left: `${from}%` }}></i>`}</dd>
            <dd class="num"><span class="hidden">median </span>${nanos(p50)}</dd>
            <dd class="num dim"><span class="hidden">99th percentile </span>${nanos(p99)}</dd>
          </div>`;
      })}</dl>
    </div>`;
}

/** Counts by name, the longest first. */
export function Counts({ rows, empty, words = (name) => name, format = (n) => n }) {
  const shown = rows.filter(([, value]) => value > 0).sort((a, b) => b[1] - a[1]);
  if (!shown.length) return html`<p class="quiet-text">${empty}</p>`;
  const most = shown[0][1];
  return html`<dl class="counts">${shown.map(([name, value]) => html`
    <div class="count-row"><dt>${words(name)}</dt>
      <dd class="count-bar" aria-hidden="true"><i style=${{ width: `${Math.max(1, (value / most) * 100)}%` }}></i></dd>
      <dd class="num">${format(value)}</dd></div>`)}</dl>`;
}

/** How much of a bound is used. */
export function Meter({ value, most, label, warnAt = 0.8, fullAt = 1 }) {
  const used = most > 0 ? value / most : 0;
  const part = Math.min(1, used);
  return html`<span class=${`meter${used >= fullAt ? ' full' : used >= warnAt ? ' near' : ''}`} role="meter" aria-valuenow=${Math.round(value * 100) / 100}
    aria-valuemin="0" aria-valuemax=${most} aria-label=${label}><i style=${{ width: `${part * 100}%` }}></i></span>`;
}

export const PHASES = [
  ['queue_us', 'queue'], ['dns_us', 'DNS'], ['tcp_us', 'TCP'], ['tls_us', 'TLS'], ['write_us', 'write'], ['first_byte_us', 'first byte'],
];

/** Where an attempt's time went, as one bar. */
export function PhaseBar({ phases }) {
  if (!phases) return html`<span class="none">–</span>`;
  const parts = PHASES.map(([key, name]) => [name, phases[key]]).filter(([, us]) => us !== null && us !== undefined);
  const total = parts.reduce((sum, [, us]) => sum + us, 0) || 1;
  const text = parts.map(([name, us]) => `${name} ${nanos(us * 1e3)}`).join(', ');
  return html`<span class="phases" role="img" aria-label=${text} title=${text}>${parts.map(([name, us]) => html`
    <i class=${`phase ${name.replace(' ', '-').toLowerCase()}`} style=${{ flexGrow: Math.max(us / total, 0.004) }}></i>`)}</span>`;
}

/** What the colours of the bars mean. */
export function PhaseKey() {
  return html`<ul class="phase-key" aria-label="Phases of an attempt">${PHASES.map(([, name]) => html`
    <li><i class=${`phase ${name.replace(' ', '-').toLowerCase()}`} aria-hidden="true"></i>${name}</li>`)}</ul>`;
}
