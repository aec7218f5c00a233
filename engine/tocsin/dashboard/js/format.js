// Numbers, times and names as people read them. Units are always with the number.

import { EXCHANGES } from './names.js';

const COUNT = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

export const count = (n) => (n === null || n === undefined ? '–' : COUNT.format(n));

/** 1,234 as 1,234; 1,234,567 as 1.23 M. */
export function short(n) {
  if (n === null || n === undefined) return '–';
  if (n < 100_000) return COUNT.format(n);
  const [scaled, unit] = n < 1e6 ? [n / 1e3, 'k'] : n < 1e9 ? [n / 1e6, 'M'] : [n / 1e9, 'G'];
  return `${digits(scaled)} ${unit}`;
}

/** Three significant digits. */
function digits(n) {
  if (n >= 100) return n.toFixed(0);
  if (n >= 10) return n.toFixed(1);
  return n.toFixed(2);
}

export function bytes(n) {
  if (n === null || n === undefined) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let scaled = n;
  let unit = 0;
  while (scaled >= 1024 && unit < units.length - 1) {
    scaled /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${scaled} B` : `${digits(scaled)} ${units[unit]}`;
}

/** A span given in nanoseconds. */
export function nanos(n) {
  if (n === null || n === undefined) return '–';
  if (n < 0) return `−${nanos(-n)}`;
  if (n < 1e3) return `${Math.round(n)} ns`;
  if (n < 1e6) return `${digits(n / 1e3)} µs`;
  if (n < 1e9) return `${digits(n / 1e6)} ms`;
  if (n < 120e9) return `${digits(n / 1e9)} s`;
  return span(n / 1e9);
}
export const micros = (n) => (n === null || n === undefined ? '–' : nanos(n * 1e3));

export const perSecond = (n) => (n === null || n === undefined ? '–' : n < 100 ? n.toFixed(1) : short(n));

/** A long span in seconds, in its two largest units. */
export function span(secs) {
  const units = [['d', 86_400], ['h', 3_600], ['min', 60], ['s', 1]];
  const at = units.findIndex(([, size]) => secs >= size);
  if (at < 0) return '0 s';
  const [name, size] = units[at];
  const first = `${Math.floor(secs / size)} ${name}`;
  const next = units[at + 1];
  const rest = next ? Math.floor((secs % size) / next[1]) : 0;
  return rest ? `${first} ${rest} ${next[0]}` : first;
}

/** How long ago, coarse on purpose: the exact instant stands beside it. */
export function ago(ms, now = Date.now()) {
  const secs = Math.max(0, (now - ms) / 1000);
  if (secs < 1) return 'now';
  if (secs < 60) return `${Math.floor(secs)} s ago`;
  if (secs < 3_600) return `${Math.floor(secs / 60)} min ago`;
  if (secs < 86_400) return `${Math.floor(secs / 3_600)} h ago`;
  return `${Math.floor(secs / 86_400)} d ago`;
}

const pad = (n, width = 2) => String(n).padStart(width, '0');
const day = (d) => `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())}`;

/** In the viewer's zone: the time alone today, with the date otherwise. */
export function clockTime(ms, withMillis = false) {
  const d = new Date(ms);
  const time = `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
  const text = withMillis ? `${time}.${pad(d.getMilliseconds(), 3)}` : time;
  return day(d) === day(new Date()) ? text : `${day(d)} ${text}`;
}

/** The exact instant: in the viewer's zone, with its offset, and in UTC. */
export function exact(ms, fractionUs = null) {
  const d = new Date(ms);
  const offset = -d.getTimezoneOffset();
  const zone = `${offset < 0 ? '−' : '+'}${pad(Math.floor(Math.abs(offset) / 60))}:${pad(Math.abs(offset) % 60)}`;
  const us = fractionUs === null ? `${pad(d.getMilliseconds(), 3)}` : pad(fractionUs % 1_000_000, 6);
  const local = `${day(d)} ${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}.${us} ${zone}`;
  return `${local} (${d.toISOString()})`;
}

/** `spot_listing` as people say it. */
export const words = (name) => (name ? String(name).replace(/_/g, ' ') : '–');

// In a source's name Crypto.com has no dot.
const DISPLAY = new Map([...EXCHANGES, ['cryptocom', 'Crypto.com']]);
export const exchange = (name) => DISPLAY.get(name) || (name ? name[0].toUpperCase() + name.slice(1) : '–');

/** The p-th of a hundred of numbers, by nearest rank; null of none. */
export function percentile(numbers, p) {
  if (!numbers.length) return null;
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil((p / 100) * sorted.length) - 1))];
}

/** A source's name, `binance.cms`: the exchange, and which of its lists. */
export function source(name) {
  const [whose, ...list] = name.split('.');
  return list.length ? `${exchange(whose)} ${list.join(' ')}` : exchange(whose);
}
