// What there is to know of one container.
import { el, icon, text, bits, count, whole, age } from './dom.js';
import { live, on, portsOf } from './live.js';
import { spark } from './spark.js';
import { portText } from './map.js';
import { reasons } from './reasons.js';

let root, current = '', back = null, parts = [];

export function drawer(node) {
  root = node;
  root.addEventListener('keydown', (e) => { if (e.key === 'Escape') close(); });
  on('counts', update);
  on('topology', () => { if (current && !live.byName.has(current)) close(); });
}

export function openDrawer(name) {
  const c = live.byName.get(name);
  if (!c) return;
  if (root.hidden) back = document.activeElement;
  current = name;
  parts = [];
  const shut = el('button', { type: 'button', class: 'quiet icon-button', 'aria-label': 'Close', onclick: close }, icon('close'));
  root.replaceChildren(
    el('header', {}, el('h2', {}, icon('box'), el('span', {}, c.name)), shut),
    el('p', { class: 'muted' }, `${c.mode}${c.peer ? ` of ${c.peer}` : ''} · attached ${age((Date.now() - new Date(c.created)) / 1000)} ago${c.pid ? ` · pid ${c.pid}` : ''}`),
    el('nav', { class: 'actions', 'aria-label': `About ${c.name}` },
      el('a', { class: 'button', href: `#flows?q=${encodeURIComponent(c.name)}` }, 'Flows'),
      el('a', { class: 'button', href: `#nat?q=${encodeURIComponent(c.name)}` }, 'NAT'),
      el('a', { class: 'button', href: `#why?from=${encodeURIComponent(c.name)}` }, 'Why'),
      el('a', { class: 'button', href: `#capture?name=${encodeURIComponent(c.name)}` }, 'Capture')),
    ...c.endpoints.map((e) => endpoint(e)),
    ...(c.ports.length ? [el('h3', {}, 'Published ports'), el('ul', { class: 'plain' }, c.ports.map((p) => el('li', {}, el('span', { class: 'port' }, portText(p)))))] : []),
    ...labels(c.labels));
  root.hidden = false;
  update();
  shut.focus();
}

function endpoint(e) {
  const curve = spark('in', 'out'), down = el('b', { class: 'in-text num' }), up = el('b', { class: 'out-text num' }), drops = el('ul', { class: 'plain small' });
  const frames = el('span', { class: 'num muted' });
  parts.push({ port: e.host_interface, curve, down, up, frames, drops });
  const facts = [['Interface', e.interface], ['Addresses', e.addresses.join(', ')], ['Gateway', e.gateways.join(', ') || 'none'],
    ['MAC', e.mac], ['MTU', e.mtu], ['Guard', e.guard], ['Host interface', e.host_interface]];
  if (e.vlan) facts.push(['VLAN', e.vlan]);
  if (e.trunk) facts.push(['Trunk', e.trunk]);
  return el('section', { class: 'end' }, el('h3', {}, e.network),
    el('p', { class: 'rates' }, '↓ ', down, ' ↑ ', up, ' ', frames), curve.root,
    el('dl', {}, facts.flatMap(([k, v]) => [el('dt', {}, k), el('dd', { class: 'mono' }, String(v))])), drops);
}

function labels(all) {
  const list = Object.entries(all || {});
  if (!list.length) return [];
  return [el('h3', {}, 'Labels'), el('dl', {}, list.flatMap(([k, v]) => [el('dt', {}, k), el('dd', { class: 'mono' }, v)]))];
}

function update() {
  if (root.hidden) return;
  const mine = new Map(portsOf(current).map((p) => [p.port, p]));
  for (const q of parts) {
    const p = mine.get(q.port);
    if (!p) continue;
    text(q.down, bits(p.tx));
    text(q.up, bits(p.rx));
    text(q.frames, `${count(p.rxf + p.txf)} frames/s`);
    q.curve.draw(p.history.map((h) => h.tx), p.history.map((h) => h.rx));
    const list = Object.entries(p.drops).sort((a, b) => b[1] - a[1]);
    const key = JSON.stringify(list);
    if (q.key !== key) {
      q.key = key;
      q.drops.replaceChildren(...list.map(([r, n]) => el('li', { title: reasons[r]?.do || '' }, el('code', { class: 'bad-text' }, r), ` ${whole(n)}`, el('br'), el('span', { class: 'muted' }, reasons[r]?.means || ''))));
    }
  }
}

function close() {
  root.hidden = true;
  current = '';
  back?.focus?.();
}
export { close as closeDrawer };
