// Dialogs: the browser's own <dialog>, which keeps the focus inside, closes on Escape and gives the focus
// back. A form in a dialog shows what the API refuses at the field it names.

import { html, useEffect, useRef, useState } from '/assets/vendor/preact-htm.js';
import { Field, describedBy } from './parts.js';

/** `onClose` is called however it closes. */
export function Dialog({ title, onClose, children, className = '' }) {
  const node = useRef(null);
  const left = useRef(false);
  const closed = () => left.current || onClose();
  const heading = `dialog-${title.replace(/\W+/g, '-').toLowerCase()}`;
  useEffect(() => {
    const before = document.activeElement;
    const dialog = node.current;
    dialog.showModal();
    const first = dialog.querySelector('input, select');
    if (first) first.focus();
    return () => {
      // While it is open, nothing behind it takes the focus. Whoever took it away knows that it closes.
      left.current = true;
      dialog.close();
      if (before && before.isConnected) before.focus();
    };
  }, []);
  return html`
    <dialog ref=${node} class=${className} aria-labelledby=${heading} onClose=${closed}
      onCancel=${(event) => { event.preventDefault(); onClose(); }}>
      <header class="dialog-head">
        <h2 id=${heading}>${title}</h2>
        <button type="button" class="close" aria-label="Close" onClick=${onClose}>×</button>
      </header>
      <div class="dialog-body">${children}</div>
    </dialog>`;
}

/** A form that sends its fields with `send` and hands the answer to `done`. */
export function Form({ fields, send, done, submit, onCancel, note, danger }) {
  const initial = Object.fromEntries(fields.map((field) => [field.name, field.value ?? '']));
  const [values, setValues] = useState(initial);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const form = useRef(null);
  const press = async (event) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setError(null);
    try {
      done(await send(values));
    } catch (refusal) {
      setError(refusal);
      setBusy(false);
      const named = form.current && form.current.elements.namedItem(refusal.field || '');
      if (named && named.focus) named.focus();
    }
  };
  const shown = fields.map((field) => field.name);
  const elsewhere = error && !shown.includes(error.field);
  return html`
    <form ref=${form} onSubmit=${press} novalidate>
      ${note && html`<p class="form-note">${note}</p>`}
      ${fields.map((field) => html`<${Input} key=${field.name} field=${field} value=${values[field.name]}
        error=${error && error.field === field.name ? error.message : null}
        onChange=${(value) => setValues((before) => ({ ...before, [field.name]: value }))} />`)}
      ${elsewhere && html`<p class="form-error" role="alert">${error.message}</p>`}
      <div class="form-actions">
        ${onCancel && html`<button type="button" onClick=${onCancel}>Cancel</button>`}
        <button type="submit" class=${`${danger ? 'danger' : 'primary'}${busy ? ' busy' : ''}`} aria-disabled=${busy}>
          ${busy ? 'One moment' : submit}</button>
      </div>
    </form>`;
}

function Input({ field, value, error, onChange }) {
  const { name, label, kind = 'text', hint, options, placeholder } = field;
  const id = `field-${name}`;
  const common = {
    id, name, 'aria-invalid': error ? 'true' : undefined, 'aria-describedby': describedBy(id, hint, error),
  };
  if (kind === 'check') {
    return html`<div class="field check"><input type="checkbox" ...${common} checked=${value === true}
      onChange=${(event) => onChange(event.target.checked)} /><label for=${id}>${label}</label>
      ${hint && html`<p class="hint" id=${`${id}-hint`}>${hint}</p>`}</div>`;
  }
  if (kind === 'checks') return html`<${Checks} ...${{ field, value, error, onChange, id }} />`;
  return html`
    <${Field} label=${label} hint=${hint} error=${error} id=${id}>
      ${kind === 'select'
        ? html`<select ...${common} value=${value} onChange=${(event) => onChange(event.target.value)}>
            ${options.map(([key, text]) => html`<option value=${key} selected=${key === value}>${text}</option>`)}</select>`
        : html`<input ...${common} type=${kind} value=${value} placeholder=${placeholder} autocomplete="off"
            spellcheck=${false} inputmode=${field.mode} onInput=${(event) => onChange(event.target.value)} />`}
    <//>`;
}

/** Several of a list; none chosen stands for all. */
function Checks({ field, value, error, onChange, id }) {
  const chosen = new Set(value || []);
  const flip = (key) => {
    const next = new Set(chosen);
    if (next.has(key)) next.delete(key); else next.add(key);
    onChange(field.options.map(([one]) => one).filter((one) => next.has(one)));
  };
  return html`
    <fieldset class=${`field checks${error ? ' wrong' : ''}`}>
      <legend>${field.label}</legend>
      <div class="chips">${field.options.map(([key, text]) => html`
        <label class="chip"><input type="checkbox" name=${field.name} checked=${chosen.has(key)} onChange=${() => flip(key)} />
          <span>${text}</span></label>`)}</div>
      <p class="hint">${chosen.size ? `${chosen.size} chosen` : 'None chosen: all of them'}</p>
      ${error && html`<p class="field-error" id=${`${id}-error`} role="alert">${error}</p>`}
    </fieldset>`;
}

/** Asks before something that cannot be taken back. */
export function Confirm({ title, children, submit, send, done, onClose }) {
  return html`
    <${Dialog} title=${title} onClose=${onClose} className="small">
      ${children}
      <${Form} fields=${[]} send=${send} done=${done} submit=${submit} onCancel=${onClose} danger=${true} />
    <//>`;
}
