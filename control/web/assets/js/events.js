// What happened, newest first.
import { el, text, clock, icon } from './dom.js';
import { live, on } from './live.js';
import { openDrawer } from './drawer.js';

const bad = new Set(['mac-spoof', 'mac-flood', 'bad-source', 'not-from-host', 'ip-spoof', 'forged-source', 'arp-spoof', 'nd-spoof', 'rogue-router', 'rogue-dhcp', 'unreadable', 'loop', 'mac-flap', 'storm', 'table-full', 'limit-hit', 'port-taken', 'resolver-taken', 'state-damaged', 'lost']);
const shown = 200;

export function events(root) {
  let q = '', only = false;
  const search = el('input', { type: 'search', placeholder: 'type, container, address …', 'aria-label': 'Search events', autocomplete: 'off', spellcheck: 'false' });
  const warn = el('button', { type: 'button', class: 'quiet', 'aria-pressed': 'false' }, 'Only warnings');
  const summary = el('p', { class: 'muted num', role: 'status' });
  const list = el('ol', { class: 'events' }), none = el('p', { class: 'empty muted' }, 'Nothing has happened yet.');
  root.append(el('header', { class: 'view-head' }, el('h1', {}, 'Events'), summary, el('span', { class: 'grow' }), search, warn), el('div', { class: 'panel flush' }, list, none));
  const nodes = new Map();

  function draw() {
    const words = q.toLowerCase().split(/\s+/).filter(Boolean);
    const match = live.events.filter((e) => {
      if (only && !bad.has(e.type)) return false;
      const all = `${e.type} ${e.message} ${e.container || ''} ${e.network || ''} ${e.interface || ''} ${e.mac || ''}`.toLowerCase();
      return words.every((w) => all.includes(w));
    });
    const wanted = match.slice(0, shown).map(nodeOf);
    wanted.forEach((n, i) => { if (list.children[i] !== n) list.insertBefore(n, list.children[i] || null); });
    while (list.children.length > wanted.length) list.lastChild.remove();
    none.hidden = wanted.length > 0;
    text(none, live.events.length ? 'Nothing matches.' : 'Nothing has happened yet.');
    text(summary, match.length ? `${match.length}${match.length > shown ? `, the last ${shown} shown` : ''}` : '');
    const kept = new Set(live.events.map((e) => e.seq));
    for (const seq of nodes.keys()) if (!kept.has(seq)) nodes.delete(seq);
  }

  function nodeOf(e) {
    let n = nodes.get(e.seq);
    if (!n) {
      const d = new Date(e.time);
      n = el('li', { class: bad.has(e.type) ? 'warn' : '' },
        el('time', { class: 'mono muted', datetime: e.time, title: d.toLocaleString() }, clock(d).slice(0, 8)),
        el('span', { class: 'chip type' }, e.type), el('span', { class: 'what' }, e.message),
        e.container && live.byName.has(e.container) ? el('button', { type: 'button', class: 'quiet icon-button', 'aria-label': `About ${e.container}`, onclick: () => openDrawer(e.container) }, icon('box')) : null);
      nodes.set(e.seq, n);
    }
    return n;
  }

  search.addEventListener('input', () => { q = search.value; draw(); });
  warn.addEventListener('click', () => { only = !only; warn.setAttribute('aria-pressed', String(only)); draw(); });
  let due = false;
  on('event', () => { // many at once are drawn once
    if (root.hidden || due) return;
    due = true;
    requestAnimationFrame(() => { due = false; draw(); });
  });
  return (params) => {
    if (params.has('q')) search.value = q = params.get('q');
    draw();
  };
}
