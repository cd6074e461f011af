// Requests to the daemon, and the token that they show.
//
// The token lies in the storage of this origin. A cookie would not do: it is sent to
// every port of the host, so to whatever a container publishes there.
import { el, text } from './dom.js';

const key = 'token';
const offered = /^#token=/;
const pause = 300; // before a request is made once more

let token = read();
let entry = null; // the promise of a token that is good, while one is looked for
let attempt = null; // tries a token, while the reader is asked for one

function read() {
  try { return localStorage.getItem(key) || ''; } catch { return ''; }
}

function keep(t) {
  token = t;
  try { localStorage.setItem(key, t); } catch { /* kept until the page is closed */ }
}

// The link of `vswitch page` has the token behind #, which a browser sends to nobody.
// It is taken out of the address at once.
function takeOffer() {
  if (!offered.test(location.hash)) return '';
  const t = new URLSearchParams(location.hash.slice(1)).get('token') || '';
  history.replaceState(null, '', location.pathname);
  return t;
}

// request asks once more when no answer came: a browser drops what it waits for when an
// interface of the host comes or goes, and all that is asked for only reads.
async function request(path, init, t) {
  const headers = t ? { Authorization: `Bearer ${t}` } : {};
  const once = () => fetch(path, { ...init, headers, credentials: 'omit' });
  try { return await once(); } catch (e) {
    if (init?.signal?.aborted) throw e;
  }
  await new Promise((done) => setTimeout(done, pause));
  return once();
}

// good reports whether the daemon takes t; it throws when the daemon does not answer.
async function good(t) {
  if (/[^\x21-\x7e]/.test(t)) return false; // no header carries it
  return (await request('/v1/info', {}, t)).status !== 401;
}

// enter looks for a token that is good: one that was offered, then the one that is
// kept, then what the reader types in. Any site can open this page with a token of its
// own making, so an offer that is not good changes nothing.
async function enter(offer) {
  for (const t of new Set([offer, read(), token])) {
    if (!await good(t)) continue;
    if (t) keep(t);
    return;
  }
  await typed();
}

function entered(offer) {
  entry ||= enter(offer).finally(() => { entry = null; });
  return entry;
}

// typed asks the reader until there is a good one.
function typed() {
  const input = el('input', { id: 'token', type: 'password', autocomplete: 'off', spellcheck: 'false', required: true, autofocus: true });
  const note = el('p', { class: 'bad-text', role: 'alert' });
  const form = el('form', { class: 'form' },
    el('div', { class: 'field grow' }, el('label', { for: 'token' }, 'Token, or the link'), input),
    el('div', { class: 'buttons' }, el('button', { type: 'submit', class: 'primary' }, 'Open')), note);
  const box = el('dialog', { class: 'panel enter', 'aria-labelledby': 'enter-title' }, el('h1', { id: 'enter-title' }, 'vswitch'),
    el('p', {}, 'This page wants its token. On the host, ', el('code', {}, 'vswitch page'), ' prints the link that has it.'), form);
  box.addEventListener('cancel', (e) => e.preventDefault());
  document.body.append(box);
  box.showModal();
  return new Promise((done) => {
    attempt = async (t) => {
      text(note, '');
      try {
        if (await good(t)) {
          keep(t);
          attempt = null;
          box.remove();
          done();
          return;
        }
        text(note, 'This is not the token.');
      } catch {
        text(note, 'The daemon does not answer.');
      }
      input.select();
    };
    form.addEventListener('submit', (e) => {
      e.preventDefault();
      const [, link] = input.value.split('#token=');
      attempt(link === undefined ? input.value.trim() : new URLSearchParams(`token=${link.trim()}`).get('token'));
    });
  });
}

let first = takeOffer();
addEventListener('hashchange', () => { // the link was put into a page that is open
  const t = takeOffer();
  if (t) attempt?.(t);
});

// ask is fetch with the token. Whoever has none is asked for it, and the request waits.
export async function ask(path, init) {
  if (entry || first) {
    await entered(first);
    first = '';
  }
  const sent = token;
  const r = await request(path, init, sent);
  if (r.status !== 401) return r;
  if (sent === token) await entered('');
  return request(path, init, token);
}

// json asks for what the daemon says, or throws its one line.
export async function json(path, init) {
  const r = await ask(path, init);
  if (r.ok) return r.json();
  throw new Error(await message(r));
}

export async function message(r) {
  const body = await r.text();
  try { return JSON.parse(body).error || r.statusText; } catch { return body.replace(/^vswitch: /, '').trim() || r.statusText; }
}
