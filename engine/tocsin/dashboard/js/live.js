// Live events. One EventSource for the whole page; it is closed while the page is hidden, because a
// browser keeps few connections to a host. What it brings is kept here, bounded, for the pages to read.

import { useEffect } from '/assets/vendor/preact-htm.js';
import { get } from './api.js';
import { useTold } from './parts.js';

/** Announcements that are kept. */
const ANNOUNCEMENTS = 200;
/** Lines of the delivery log that are kept. */
const DELIVERIES = 200;
/** Snapshots of the counters that are kept: five minutes. */
const SAMPLES = 300;
/** A break shorter than this is not shown: streams end and begin again every few minutes. */
const GRACE_MS = 2500;

const listeners = new Set();
let source = null;
let role = null;
let breaking = null;

export const live = {
  /** 'connecting', 'live', 'paused' (the page is hidden) or 'lost'. */
  connection: 'connecting',
  announcements: [],
  announcementsKnown: false,
  deliveries: [],
  status: null,
  host: null,
  /** `{at, status}`, oldest first. */
  samples: [],
  /** Events this page has missed because it read too slowly. */
  lost: 0,
};

/** How often something new has come. */
let turn = 0;

function told() {
  turn += 1;
  listeners.forEach((listener) => listener());
}

/** Renders the component again whenever something new has come. */
export function useLive() {
  useTold(subscribe, () => turn);
  return live;
}

function subscribe(callback) {
  listeners.add(callback);
  return () => listeners.delete(callback);
}

/** Calls back for each line of the delivery log that comes. */
export function useDeliveries(callback) {
  useEffect(() => {
    deliveryListeners.add(callback);
    return () => deliveryListeners.delete(callback);
  }, [callback]);
}
const deliveryListeners = new Set();

const positionOf = (a) => `${a.epoch}:${a.seq}`;

function addAnnouncements(list) {
  const known = new Set(live.announcements.map(positionOf));
  const fresh = list.filter((a) => !known.has(positionOf(a)));
  if (!fresh.length) return;
  const newestFirst = (a, b) => b.epoch - a.epoch || b.seq - a.seq;
  live.announcements = [...fresh, ...live.announcements].sort(newestFirst).slice(0, ANNOUNCEMENTS);
}

/** The newest of history: at the start, and what was missed in a break. */
export async function reloadHistory() {
  try {
    const page = await get('/v1/announcements?limit=100');
    addAnnouncements(page.announcements);
    live.historyError = null;
  } catch (error) {
    live.historyError = error.message;
  }
  live.announcementsKnown = true;
  told();
}

const handlers = {
  hello() {
    clearTimeout(breaking);
    breaking = null;
    live.connection = 'live';
    reloadHistory();
  },
  announcement(announcement) {
    addAnnouncements([{ ...announcement, arrived: Date.now() }]);
  },
  delivery(line) {
    live.deliveries = [line, ...live.deliveries].slice(0, DELIVERIES);
    deliveryListeners.forEach((listener) => listener(line));
  },
  status(status) {
    live.status = status;
    live.samples = [...live.samples, { at: Date.now(), status }].slice(-SAMPLES);
  },
  host(host) {
    live.host = { ...host, arrived: Date.now() };
  },
  lost({ events }) {
    live.lost += events;
    reloadHistory();
  },
};

function open() {
  if (source) source.close();
  source = new EventSource(role === 'administrator' ? '/admin/v1/live' : '/v1/live');
  for (const [name, handle] of Object.entries(handlers)) {
    source.addEventListener(name, (event) => {
      handle(JSON.parse(event.data));
      told();
    });
  }
  source.onerror = () => {
    if (!breaking) {
      breaking = setTimeout(() => {
        live.connection = 'lost';
        told();
      }, GRACE_MS);
    }
    // A refusal ends an EventSource for good; it is made anew. A lost session is noticed by asking.
    if (source && source.readyState === EventSource.CLOSED) {
      setTimeout(() => {
        if (!role || document.hidden) return;
        get(role === 'administrator' ? '/admin/v1/status' : '/v1/account').catch(() => {});
        open();
      }, 2000);
    }
  };
}

function onVisibility() {
  if (!role) return;
  if (document.hidden) {
    if (source) source.close();
    source = null;
    live.connection = 'paused';
  } else if (!source) {
    live.connection = 'connecting';
    live.samples = [];
    open();
  }
  told();
}

export function startLive(whose) {
  stopLive();
  role = whose;
  document.addEventListener('visibilitychange', onVisibility);
  open();
}

/** Also forgets what was seen: the next one who signs in may not see it. */
export function stopLive() {
  role = null;
  clearTimeout(breaking);
  breaking = null;
  document.removeEventListener('visibilitychange', onVisibility);
  if (source) source.close();
  source = null;
  Object.assign(live, {
    connection: 'connecting', announcements: [], announcementsKnown: false, deliveries: [], status: null,
    host: null, samples: [], lost: 0,
  });
}

/** How fast a counter grew over the last `seconds`, a second; null while too little is known. */
export function rate(read, seconds = 10) {
  const last = live.samples[live.samples.length - 1];
  const first = live.samples.find((sample) => last.at - sample.at <= seconds * 1000 + 200);
  if (!last || !first || last.at - first.at < 900) return null;
  const grown = read(last.status) - read(first.status);
  return grown < 0 ? null : grown / ((last.at - first.at) / 1000);
}
