// The parts that pages are made of. Nothing here knows the API.

import { html, useEffect, useRef, useState } from '/assets/vendor/preact-htm.js';
import { ago, clockTime, exact } from './format.js';

/** A heading and what belongs to it. */
export function Panel({ title, note, actions, children, wide, id }) {
  return html`
    <section class=${`panel${wide ? ' wide' : ''}`} aria-labelledby=${id}>
      <header class="panel-head">
        <h2 id=${id}>${title}</h2>
        ${note && html`<span class="note">${note}</span>`}
        ${actions && html`<span class="panel-actions">${actions}</span>`}
      </header>
      ${children}
    </section>`;
}

/** The head of a page. */
export function PageHead({ title, children, actions }) {
  return html`
    <div class="page-head">
      <h1 tabindex="-1">${title}</h1>
      ${children && html`<p class="lead">${children}</p>`}
      ${actions && html`<div class="page-actions">${actions}</div>`}
    </div>`;
}

/** An instant, with its exact value where the pointer rests. `ms` since 1970, or RFC 3339. */
export function Time({ at, relative, millis, us }) {
  if (at === null || at === undefined) return html`<span class="none">–</span>`;
  const ms = typeof at === 'string' ? Date.parse(at) : at;
  const text = relative ? ago(ms) : clockTime(ms, millis);
  return html`<time datetime=${new Date(ms).toISOString()} title=${exact(ms, us ?? null)}>${text}</time>`;
}

/** A state: never by colour alone. `kind`: ok, warn, bad, off, wait. */
export function Light({ kind, children }) {
  return html`<span class=${`light ${kind}`}><span class="lamp" aria-hidden="true"></span>${children}</span>`;
}

/** A figure with its name. */
export function Figure({ name, value, unit, note, kind }) {
  return html`
    <div class=${`figure ${kind || ''}`}>
      <dt>${name}</dt>
      <dd><span class="value">${value}</span>${unit && html` <span class="unit">${unit}</span>`}
        ${note && html`<span class="note">${note}</span>`}</dd>
    </div>`;
}

/** Says why there is nothing, and what to do. */
export function Empty({ title, children }) {
  return html`<div class="empty"><p class="empty-title">${title}</p>${children && html`<p>${children}</p>`}</div>`;
}

export function Loading({ what, rows = 3 }) {
  return html`
    <div class="loading" role="status"><span class="hidden">Loading ${what}</span>
      ${Array.from({ length: rows }, () => html`<span class="bone" aria-hidden="true"></span>`)}
    </div>`;
}

/** A refusal or a failure, with what can be done. */
export function Failure({ error, retry }) {
  return html`
    <div class="banner bad" role="alert">
      <span class="banner-mark" aria-hidden="true">!</span>
      <span class="banner-text">${error.message}</span>
      ${retry && html`<button type="button" class="quiet" onClick=${retry}>Try again</button>`}
    </div>`;
}

/** A table that scrolls sideways by itself where it has to. */
export function Table({ name, head, children, className = '' }) {
  const frame = useRef(null);
  const [scrolls, setScrolls] = useState(false);
  useEffect(() => {
    const look = () => frame.current && setScrolls(frame.current.scrollWidth > frame.current.clientWidth + 1);
    const resized = new ResizeObserver(look);
    resized.observe(frame.current);
    resized.observe(frame.current.firstElementChild);
    return () => resized.disconnect();
  }, []);
  const region = scrolls ? { tabindex: 0, role: 'region', 'aria-label': `${name}, scrolls sideways` } : {};
  return html`
    <div class="table-frame" ref=${frame} ...${region}>
      <table class=${className} aria-label=${name}>
        <thead><tr>${head.map((column) => {
          const { text, cls, hidden } = typeof column === 'string' ? { text: column } : column;
          return html`<th scope="col" class=${cls || ''}>${hidden ? html`<span class="hidden">${text}</span>` : text}</th>`;
        })}</tr></thead>
        <tbody>${children}</tbody>
      </table>
    </div>`;
}

/** Copies a text, and says that it did. Where the browser does not allow it, the text is selected. */
export function CopyButton({ text, name, target }) {
  const [state, setState] = useState('');
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setState('Copied');
    } catch {
      const node = target && target.current;
      if (node) getSelection().selectAllChildren(node);
      setState('Press Ctrl+C');
    }
  };
  useEffect(() => {
    if (!state) return undefined;
    const timer = setTimeout(() => setState(''), 4000);
    return () => clearTimeout(timer);
  }, [state]);
  return html`<button type="button" class="copy" onClick=${copy} aria-label=${`${state || 'Copy'} ${name}`}>
    <span aria-live="polite">${state || 'Copy'}</span></button>`;
}

/** A secret that is shown this once. */
export function Secret({ name, value, children }) {
  const text = useRef(null);
  return html`
    <div class="secret">
      <p class="secret-note">${name}: shown this once. Keep it now.</p>
      <div class="secret-row">
        <code ref=${text} tabindex="0" aria-label=${name}>${value}</code>
        <${CopyButton} text=${value} name=${name} target=${text} />
      </div>
      ${children}
    </div>`;
}

/** A labelled field; `error` belongs to it. */
export function Field({ label, hint, error, id, children }) {
  return html`
    <div class=${`field${error ? ' wrong' : ''}`}>
      <label for=${id}>${label}</label>
      ${children}
      ${hint && html`<p class="hint" id=${`${id}-hint`}>${hint}</p>`}
      ${error && html`<p class="field-error" id=${`${id}-error`} role="alert">${error}</p>`}
    </div>`;
}

/** What a field refers to: its hint and its error. */
export const describedBy = (id, hint, error) =>
  [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(' ') || undefined;

/** A button that shows that it is at work and cannot be pressed twice. */
export function ActionButton({ onClick, children, kind = '', disabled, label }) {
  const [busy, setBusy] = useState(false);
  const press = async () => {
    if (busy) return;
    setBusy(true);
    try {
      await onClick();
    } finally {
      setBusy(false);
    }
  };
  return html`<button type="button" class=${`${kind}${busy ? ' busy' : ''}`} onClick=${press} disabled=${disabled}
    aria-disabled=${busy} aria-label=${label}>${children}</button>`;
}

/** Loads something when the page opens or `key` changes; `reload` asks again without a flash. */
export function useLoaded(load, key = '') {
  const [state, setState] = useState({ value: null, error: null, key });
  const turn = useRef(0);
  const reload = async () => {
    const mine = (turn.current += 1);
    try {
      const value = await load();
      if (mine === turn.current) setState({ value, error: null, key });
    } catch (error) {
      if (mine === turn.current) setState((before) => ({ ...before, error, key }));
    }
  };
  useEffect(() => {
    setState((before) => (before.key === key ? before : { value: null, error: null, key }));
    reload();
    return () => { turn.current += 1; };
  }, [key]);
  return { ...state, reload };
}

/**
 * What `read` returns, again whenever `subscribe` calls back. An effect runs a frame after its page was
 * shown, on a busy machine long after: what changed meanwhile counts too.
 */
export function useTold(subscribe, read) {
  const [value, setValue] = useState(read());
  useEffect(() => {
    const look = () => setValue(read());
    const end = subscribe(look);
    look();
    return end;
  }, []);
  return value;
}

/** Runs `callback` every so often while the page is shown. */
export function useEvery(ms, callback) {
  const latest = useRef(callback);
  latest.current = callback;
  useEffect(() => {
    const timer = setInterval(() => !document.hidden && latest.current(), ms);
    return () => clearInterval(timer);
  }, [ms]);
}

/** Runs `callback` once things have been quiet for a moment. */
export function useSettled(ms, callback) {
  const timer = useRef(null);
  const latest = useRef(callback);
  latest.current = callback;
  useEffect(() => () => clearTimeout(timer.current), []);
  return () => {
    clearTimeout(timer.current);
    timer.current = setTimeout(() => latest.current(), ms);
  };
}
