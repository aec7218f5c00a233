// Accounts, for the administrator: made, given a plan, a token or a sign-in link.

import { html, useState } from '/assets/vendor/preact-htm.js';
import { ask, getAll, post } from '../api.js';
import { Confirm, Dialog, Form } from '../dialogs.js';
import { Empty, Failure, Light, Loading, PageHead, Panel, Secret, Table, Time, useLoaded } from '../parts.js';
import { count, span } from '../format.js';

function Create({ onClose, done }) {
  const [made, setMade] = useState(null);
  if (made) return html`<${Token} account=${made} title="The account is made" onClose=${onClose} />`;
  const fields = [
    { name: 'name', label: 'Name' },
    { name: 'email', label: 'E-mail', kind: 'email', hint: 'Where its warnings go; empty: nowhere' },
    { name: 'plan', label: 'Plan', value: 'phantom', hint: 'webhooks.plans in the configuration says which have webhooks' },
  ];
  const send = ({ name, email, plan }) => post('/admin/v1/accounts', { name: name.trim(), email: email.trim() || undefined, plan: plan.trim() });
  return html`<${Dialog} title="Make an account" onClose=${onClose}>
    <${Form} fields=${fields} send=${send} submit="Make account" onCancel=${onClose} done=${(answer) => { setMade(answer); done(); }} /><//>`;
}

function Token({ account, title, onClose }) {
  return html`<${Dialog} title=${title} onClose=${onClose}>
    <${Secret} name=${`Token of ${account.name}`} value=${account.token}>
      <p class="hint">It signs in here, and is the Bearer token of the customer API.</p><//>
    <div class="form-actions"><button type="button" class="primary" onClick=${onClose}>I have kept it</button></div>
  <//>`;
}

function Plan({ account, onClose, done }) {
  const fields = [{ name: 'plan', label: 'Plan', value: account.plan, hint: 'One without webhooks switches the endpoints off' }];
  const send = ({ plan }) => ask('PATCH', `/admin/v1/accounts/${account.id}`, { plan: plan.trim() });
  return html`<${Dialog} title=${`Plan of ${account.name}`} onClose=${onClose} className="small">
    <${Form} fields=${fields} send=${send} submit="Set plan" onCancel=${onClose} done=${() => { onClose(); done(); }} /><//>`;
}

function NewToken({ account, onClose }) {
  const [made, setMade] = useState(null);
  if (made) return html`<${Token} account=${made} title=${`New token of ${account.name}`} onClose=${onClose} />`;
  return html`<${Confirm} title=${`New token for ${account.name}`} submit="Draw a new token" onClose=${onClose}
    send=${() => post(`/admin/v1/accounts/${account.id}/token`)} done=${setMade}>
    <p>The token before stops working at once.</p><//>`;
}

function SignInLink({ account, onClose }) {
  const loaded = useLoaded(() => post('/admin/v1/sign-in-links', { account: account.id }));
  const { value, error } = loaded;
  return html`<${Dialog} title=${`Sign-in link for ${account.name}`} onClose=${onClose}>
    ${error && html`<${Failure} error=${error} retry=${loaded.reload} />`}
    ${!value && !error && html`<${Loading} what="the link" rows=${1} />`}
    ${value && html`<${Secret} name="Sign-in link" value=${location.origin + value.path}>
      <p class="hint">It works once, for ${span(value.expires_in_secs)}.</p><//>`}
    <div class="form-actions"><button type="button" class="primary" onClick=${onClose}>Done</button></div>
  <//>`;
}

const DIALOGS = { create: Create, plan: Plan, token: NewToken, link: SignInLink };
const HEAD = [
  { text: 'No.', cls: 'num' }, 'Name', { text: 'E-mail', cls: 'lo' }, 'Plan', 'Webhooks', { text: 'Tests left', cls: 'num lo' },
  { text: 'Made', cls: 'num lo' }, { text: 'Actions', hidden: true },
];

function Row({ account, open }) {
  const button = (kind, text) => html`<button type="button" aria-label=${`${text} of ${account.name}`} onClick=${() => open(kind, account)}>${text}</button>`;
  return html`
    <tr>
      <td class="num">${account.id}</td>
      <th scope="row">${account.name}</th>
      <td class="lo">${account.email || html`<span class="none">–</span>`}</td>
      <td>${account.plan}</td>
      <td><${Light} kind=${account.webhooks ? 'ok' : 'off'}>${account.webhooks ? `up to ${account.endpoints_max}` : 'none'}<//></td>
      <td class="num lo">${count(account.tests_left)}</td>
      <td class="num lo"><${Time} at=${account.created_at} /></td>
      <td class="row-actions">${button('link', 'Sign-in link')}${button('plan', 'Plan')}${button('token', 'New token')}</td>
    </tr>`;
}

export function Accounts() {
  const [dialog, setDialog] = useState(null);
  const { value, error, reload } = useLoaded(async () => ({ accounts: await getAll('/admin/v1/accounts', 'accounts') }));
  const Shown = dialog && DIALOGS[dialog.kind];
  const make = html`<button type="button" class="primary" onClick=${() => setDialog({ kind: 'create' })}>Make an account</button>`;
  return html`
    <${PageHead} title="Accounts" actions=${make}>Customers: each has a plan, a token, and webhooks of its own.<//>
    ${error && html`<${Failure} error=${error} retry=${reload} />`}
    ${!value && !error && html`<${Loading} what="accounts" rows=${4} />`}
    ${value && value.accounts.length === 0 && html`<${Empty} title="There is no account yet">Make one for each customer.<//>`}
    ${value && value.accounts.length > 0 && html`<${Panel} title="All accounts" id="accounts-all" wide=${true} note=${count(value.accounts.length)}>
      <${Table} name="Accounts" head=${HEAD}>${value.accounts.map((account) => html`
        <${Row} key=${account.id} account=${account} open=${(kind, which) => setDialog({ kind, account: which })} />`)}<//><//>`}
    ${dialog && html`<${Shown} account=${dialog.account} onClose=${() => setDialog(null)} done=${reload} />`}`;
}
