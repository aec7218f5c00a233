// The frame around every page: name, navigation, whether what is shown is live, theme, sign-out.

import { html, useEffect, useRef } from '/assets/vendor/preact-htm.js';
import { isWaiting, onWaiting } from './api.js';
import { useLive } from './live.js';
import { useTold } from './parts.js';
import { signOut } from './session.js';
import { Overview } from './pages/overview.js';
import { Sources } from './pages/sources.js';
import { Feed } from './pages/feed.js';
import { Keys } from './pages/keys.js';
import { Accounts } from './pages/accounts.js';
import { Webhooks } from './pages/webhooks.js';
import { Endpoint } from './pages/endpoint.js';
import { Deliveries } from './pages/deliveries.js';
import { Host } from './pages/host.js';

const ADMINISTRATOR = [
  { path: 'overview', title: 'Overview', page: Overview, group: 'Watch' },
  { path: 'sources', title: 'Sources', page: Sources, group: 'Watch' },
  { path: 'feed', title: 'Feed', page: Feed, group: 'Watch' },
  { path: 'deliveries', title: 'Deliveries', page: Deliveries, inner: Deliveries, group: 'Watch' },
  { path: 'host', title: 'Host and clock', page: Host, group: 'Watch' },
  { path: 'keys', title: 'Keys', page: Keys, group: 'Settings' },
  { path: 'accounts', title: 'Accounts', page: Accounts, group: 'Settings' },
  { path: 'webhooks', title: 'Webhooks', page: Webhooks, inner: Endpoint, group: 'Settings' },
];

const CUSTOMER = [
  { path: 'overview', title: 'Overview', page: Overview, group: 'Watch' },
  { path: 'deliveries', title: 'Deliveries', page: Deliveries, inner: Deliveries, group: 'Watch' },
  { path: 'keys', title: 'Keys', page: Keys, group: 'Settings' },
  { path: 'webhooks', title: 'Webhooks', page: Webhooks, inner: Endpoint, group: 'Settings' },
];

/** What a role sees. */
export const pagesOf = (who) => (who.role === 'administrator' ? ADMINISTRATOR : CUSTOMER);

const CONNECTIONS = {
  connecting: ['wait', 'Connecting'],
  live: ['ok', 'Live'],
  paused: ['off', 'Paused'],
  lost: ['bad', 'Disconnected'],
};

function Connection() {
  const { connection } = useLive();
  const [kind, text] = CONNECTIONS[connection];
  return html`<span class=${`light ${kind} connection`} role="status"><span class="lamp" aria-hidden="true"></span>${text}</span>`;
}

function Disconnected() {
  const { connection } = useLive();
  if (connection !== 'lost') return null;
  return html`<div class="banner bad" role="alert"><span class="banner-mark" aria-hidden="true">!</span>
    <span class="banner-text">The connection to the service is lost. What you see is the last that was known; it goes on by itself once the service answers.</span></div>`;
}

/** While the service asks to wait. */
export const WAITING = 'The service is asked more often than it answers this address. The page waits and goes on by itself.';

function Waiting() {
  if (!useTold(onWaiting, isWaiting)) return null;
  return html`<div class="banner warn" role="status"><span class="banner-mark" aria-hidden="true">!</span>
    <span class="banner-text">${WAITING}</span></div>`;
}

function onTheme(callback) {
  window.addEventListener('tocsin-theme', callback);
  return () => window.removeEventListener('tocsin-theme', callback);
}

function ThemeButton() {
  const theme = useTold(onTheme, () => document.documentElement.dataset.theme);
  const other = theme === 'dark' ? 'Light' : 'Dark';
  return html`<button type="button" class="quiet" onClick=${() => window.tocsinTheme.toggle()}
    aria-label=${`Switch to ${other.toLowerCase()} colours`}>${other}</button>`;
}

function Navigation({ pages, page }) {
  const nav = useRef(null);
  useEffect(() => {
    // Where the pages stand in a row that scrolls, the one that is shown is in sight.
    const here = nav.current.querySelector('[aria-current]');
    if (here) nav.current.scrollLeft = here.offsetLeft - 60;
  }, [page]);
  const groups = [...new Set(pages.map((one) => one.group))];
  return html`
    <nav class="nav" ref=${nav} aria-label="Pages">${groups.map((group) => html`
      <div class="nav-group" role="group" aria-labelledby=${`nav-${group}`}>
        <span class="nav-title" id=${`nav-${group}`}>${group}</span>
        ${pages.filter((one) => one.group === group).map((one) => html`
          <a href=${`#/${one.path}`} aria-current=${one === page ? 'page' : undefined}>${one.title}</a>`)}
      </div>`)}</nav>`;
}

export function Shell({ who, failure, pages, page, children }) {
  const name = who.role === 'administrator' ? 'Administrator' : who.account.name;
  const skip = (event) => {
    event.preventDefault();
    const main = document.getElementById('main');
    main.focus();
    main.scrollIntoView();
  };
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to the page</a>
    <header class="bar">
      <a class="brand" href="#/overview"><svg viewBox="0 0 16 16" aria-hidden="true" focusable="false"><path d="M8 1.5a4 4 0 0 0-4 4v3L2.5 11h11L12 8.500v-3a4 4 0 0 0-4-4zM6.300 12.500a1.700 1.700 0 0 0 3.400 0z" /></svg>Tocsin</a>
      <${Connection} />
      <span class="bar-space"></span>
      <span class="who" title=${who.role}>${name}</span>
      <${ThemeButton} />
      <button type="button" class="quiet" onClick=${signOut}>Sign out</button>
    </header>
    <div class="frame">
      <${Navigation} pages=${pages} page=${page} />
      <main id="main" tabindex="-1">
        <${Disconnected} />
        <${Waiting} />
        ${failure && html`<div class="banner bad" role="alert"><span class="banner-mark" aria-hidden="true">!</span><span class="banner-text">${failure}</span></div>`}
        ${children}
      </main>
    </div>`;
}
