// The map: the world, the switch, its networks, and in each the host's device and
// the containers on a bus. Lines carry two streams, towards the right (in) and
// back (out), as thick as they are loud.
import { el, svg, icon, text, attr, bitsShort, bits, level, naturally } from './dom.js';
import { live, on } from './live.js';
import { openDrawer } from './drawer.js';

// A network with more than rowsAll containers shows the rowsMost busiest of them as
// rows, and all of them as cells.
const rowsAll = 12, rowsMost = 8;
// A row keeps its container for so many seconds, so that the picture stays quiet.
const keepRows = 5;

let root, wires, worldCol, netCol, hub, legend, hint;
let cards = new Map(); // network -> card
let uplinks = [];

export function map(node) {
  root = node;
  wires = svg('svg', { class: 'wires', 'aria-hidden': 'true' });
  worldCol = el('div', { class: 'map-world' });
  hub = el('div', { class: 'map-hub', 'aria-hidden': 'true' }, svg('svg', { viewBox: '0 0 32 32', class: 'logo' }, svg('use', { href: '#i-logo' })));
  netCol = el('div', { class: 'map-nets' });
  legend = el('p', { class: 'legend' }, el('span', {}, '↓ in, bit/s'), el('span', {}, '↑ out, bit/s'));
  hint = el('section', { class: 'panel hint', hidden: true }, el('h2', {}, 'No container is attached'),
    el('p', { class: 'muted' }, 'Any network namespace can be one:'), el('pre', {}, 'vswitch run --name web -p 8080:80 -- COMMAND\nvswitch attach web --netns /run/netns/web -p 8080:80'));
  root.append(wires, worldCol, hub, netCol);
  root.after(hint);
  on('topology', build);
  on('counts', update);
  new ResizeObserver(() => requestAnimationFrame(wire)).observe(root);
}

function build() {
  const w = live.topology;
  uplinks = w.info.uplinks.map((u) => {
    const down = el('b', { class: 'in-text num' }), up = el('b', { class: 'out-text num' });
    const node = el('section', { class: 'panel uplink' },
      el('h2', {}, icon('world'), u.interface),
      el('p', { class: 'mono' }, ...u.addresses.flatMap((a) => [a, el('br')])),
      el('p', { class: 'muted' }, u.gateway ? `via ${u.gateway}, ` : 'no gateway, ', `MTU ${u.mtu}`),
      el('p', { class: 'rates' }, '↓ ', down, ' ↑ ', up));
    return { name: u.interface, node, down, up };
  });
  worldCol.replaceChildren(...(uplinks.length ? uplinks.map((u) => u.node)
    : [el('section', { class: 'panel uplink none' }, el('h2', {}, icon('world'), 'No uplink'), el('p', { class: 'muted' }, 'No interface holds a default route: containers reach each other, not the world.'))]), legend);

  const next = new Map();
  for (const n of w.networks) {
    const card = cards.get(n.name) || newCard(n.name);
    card.set(n, w.containers.filter((c) => c.endpoints.some((e) => e.network === n.name)));
    next.set(n.name, card);
  }
  cards = next;
  const nodes = [...cards.values()].map((c) => c.node);
  if (nodes.length !== netCol.children.length || nodes.some((n, i) => n !== netCol.children[i])) netCol.replaceChildren(...nodes);
  legend.hidden = !w.containers.length;
  hint.hidden = w.containers.length > 0;
  const elsewhere = w.containers.filter((c) => c.endpoints.length === 0);
  let other = netCol.querySelector('.elsewhere');
  other?.remove();
  if (elsewhere.length) {
    netCol.append(el('p', { class: 'elsewhere muted' }, 'Without a port of their own: ',
      ...elsewhere.flatMap((c, i) => [i ? ', ' : '', `${c.name} (${c.mode}${c.peer ? ` ${c.peer}` : ''})`])));
  }
  wire();
}

function newCard(name) {
  const title = el('h2', {}, name), sub = el('p', { class: 'mono muted net-sub' }), chips = el('span', { class: 'chips' });
  const rates = el('p', { class: 'rates net-rates' });
  const down = el('b', { class: 'in-text num' }), up = el('b', { class: 'out-text num' });
  rates.append('↓ ', down, ' ↑ ', up);
  const rowBox = el('div', { class: 'rows' }), cellBox = el('div', { class: 'cells', role: 'group', 'aria-label': `All containers of ${name}` });
  const note = el('p', { class: 'muted cells-note' });
  const node = el('section', { class: 'panel net', 'aria-label': `Network ${name}` },
    el('header', { class: 'net-head' }, el('div', {}, el('div', { class: 'net-title' }, title, chips), sub), rates), rowBox, note, cellBox);
  const card = { node, name, rows: [], cells: new Map(), members: [], host: null, shown: [], age: 0, down: 0, up: 0 };
  // Arrow keys go through the cells: one tab stop for all of them.
  cellBox.addEventListener('keydown', (e) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -1e9, End: 1e9 }[e.key];
    if (!step) return;
    const list = [...cellBox.children], i = list.indexOf(document.activeElement);
    const to = list[Math.max(0, Math.min(list.length - 1, i + step))];
    list[i]?.setAttribute('tabindex', '-1');
    to?.setAttribute('tabindex', '0');
    to?.focus();
    e.preventDefault();
  });

  card.set = (n, members) => {
    card.net = n;
    text(sub, n.subnets.map((s) => s.subnet).join(' · '));
    const words = [];
    if (n.internal) words.push('internal');
    for (const s of n.subnets) if (s.mode !== 'nat' && !words.includes(s.mode)) words.push(s.mode);
    if (!n.icc) words.push('no icc');
    if (!n.host_access) words.push('no host access');
    words.push(`${members.length} container${members.length === 1 ? '' : 's'}`);
    chips.replaceChildren(...words.map((c) => el('span', { class: 'chip' }, c)));
    const of = new Map([...live.ports.values()].filter((p) => p.network === n.name).map((p) => [p.container || '', p]));
    card.host = of.get('');
    card.ports = of;
    card.members = members.map((c) => ({ c, e: c.endpoints.find((e) => e.network === n.name), port: of.get(c.name) }))
      .filter((m) => m.port).sort((a, b) => naturally(a.c.name, b.c.name));
    const many = card.members.length > rowsAll;
    note.hidden = cellBox.hidden = !many;
    if (many) text(note, `The ${rowsMost} busiest above; each cell is a container, the brighter the busier.`);
    const names = new Set(card.members.map((m) => m.c.name));
    for (const [k, cell] of card.cells) if (!many || !names.has(k)) { cell.remove(); card.cells.delete(k); }
    if (many) {
      let before = null;
      for (const m of card.members) {
        let cell = card.cells.get(m.c.name);
        if (!cell) {
          // What it says is made when somebody asks: 500 texts a second are not free.
          const say = () => { const p = card.ports.get(m.c.name); cell.title = `${m.c.name}: ${bits(p?.tx || 0)} in, ${bits(p?.rx || 0)} out`; };
          cell = el('button', { type: 'button', class: 'cell', tabindex: '-1', 'aria-label': m.c.name, onclick: () => openDrawer(m.c.name), onpointerenter: say, onfocus: say });
          card.cells.set(m.c.name, cell);
        }
        const wanted = before ? before.nextSibling : cellBox.firstChild;
        if (wanted !== cell) cellBox.insertBefore(cell, wanted);
        before = cell;
      }
      if (cellBox.firstChild && !cellBox.querySelector('[tabindex="0"]')) cellBox.firstChild.setAttribute('tabindex', '0');
    }
    card.age = keepRows - 2; // the first rates are there in two seconds
    card.pick();
    card.draw();
  };

  card.pick = () => {
    let list = card.members;
    if (list.length > rowsAll) {
      const loud = (m) => m.port.rx + m.port.tx + (card.shown.includes(m.c.name) ? 1 : 0);
      list = [...list].sort((a, b) => loud(b) - loud(a)).slice(0, rowsMost).sort((a, b) => naturally(a.c.name, b.c.name));
    }
    card.shown = list.map((m) => m.c.name);
    const want = [...(card.host ? [{ host: true, port: card.host }] : []), ...list];
    while (card.rows.length > want.length) card.rows.pop().node.remove();
    want.forEach((m, i) => {
      if (!card.rows[i]) { card.rows[i] = newRow(); rowBox.append(card.rows[i].node); }
      card.rows[i].set(m, card.net, i === want.length - 1);
    });
  };

  card.draw = () => {
    if (card.members.length > rowsAll && ++card.age > keepRows) { card.age = 1; card.pick(); }
    card.down = card.up = 0;
    for (const m of card.members) {
      card.down += m.port.tx;
      card.up += m.port.rx;
      const cell = card.cells.get(m.c.name);
      if (cell) {
        const l = String(level(m.port.rx + m.port.tx));
        attr(cell, 'data-level', l);
        cell.classList.toggle('dropping', m.port.drop > 0);
      }
    }
    text(down, bitsShort(card.down));
    text(up, bitsShort(card.up));
    for (const r of card.rows) r.draw();
  };
  return card;
}

function newRow() {
  const bus = svg('path', { class: 'bus' });
  const inn = svg('path', { class: 'line in' }), out = svg('path', { class: 'line out' });
  const innFlow = svg('path', { class: 'flow in' }), outFlow = svg('path', { class: 'flow out' });
  const pic = svg('svg', { class: 'stub', viewBox: '0 0 128 44', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, bus, inn, out, innFlow, outFlow);
  const down = el('span', { class: 'in-text num' }), up = el('span', { class: 'out-text num' });
  const rate = el('span', { class: 'row-rates' }, el('span', {}, '↓ ', down), el('span', {}, '↑ ', up));
  const name = el('span', { class: 'row-name' }), addr = el('span', { class: 'row-addr mono muted' }), ports = el('span', { class: 'row-ports' });
  const who = el('span', { class: 'row-who' }, name, addr);
  const mark = el('span', { class: 'row-icon' });
  const node = el('button', { type: 'button', class: 'row' }, el('span', { class: 'row-wire' }, pic, rate), mark, who, ports);
  let m = null, chips = [];
  node.addEventListener('click', () => { if (m?.c) openDrawer(m.c.name); });
  return {
    node,
    set(next, net, last) {
      m = next;
      node.classList.toggle('host', Boolean(m.host));
      node.disabled = Boolean(m.host);
      mark.replaceChildren(icon(m.host ? 'host' : 'box'));
      text(name, m.host ? 'host' : m.c.name);
      text(addr, m.host ? net.subnets.map((s) => s.gateway).filter(Boolean).join(' · ') || 'no gateway'
        : m.e.addresses.map((a) => a.split('/')[0]).join(' · '));
      const list = m.host ? [] : m.c.ports;
      chips = list.slice(0, 6).map((p) => ({ p, rate: el('b', { class: 'port-rate num' }) }));
      ports.replaceChildren(...chips.map(({ p, rate }) => el('span', { class: 'port', title: `published: ${portText(p)}` }, portText(p), rate)),
        ...(list.length > 6 ? [el('span', { class: 'port' }, `+${list.length - 6}`)] : []));
      attr(bus, 'd', last ? 'M10 0V20' : 'M10 0V44');
      const d = (y) => `M10 ${y - 12}Q10 ${y} 22 ${y}H128`;
      for (const p of [inn, innFlow]) attr(p, 'd', d(25));
      for (const p of [out, outFlow]) attr(p, 'd', d(32));
      this.draw();
    },
    draw() {
      if (!m) return;
      const p = m.port;
      text(down, bitsShort(p.tx));
      text(up, bitsShort(p.rx));
      loud(inn, innFlow, p.tx);
      loud(out, outFlow, p.rx);
      node.classList.toggle('dropping', p.drop > 0);
      for (const c of chips) {
        const rate = publishedRate(m.c.name, c.p);
        text(c.rate, rate > 0 ? bitsShort(rate) : '–');
        c.rate.parentNode.classList.toggle('busy', rate > 0);
      }
    },
  };
}

// publishedRate adds what the ports of a range carry.
export function publishedRate(name, p) {
  let sum = 0;
  for (const [key, rate] of Object.entries(live.published)) {
    const [who, proto, port] = key.split(' ');
    if (who === name && proto === p.proto && port >= p.host_port && port <= p.host_port_end) sum += rate;
  }
  return sum;
}

// loud sets how a line looks by its rate.
function loud(line, flow, rate) {
  const l = String(level(rate));
  attr(line, 'data-level', l);
  attr(flow, 'data-level', l);
}

export function portText(p) {
  const host = p.host_port === p.host_port_end ? p.host_port : `${p.host_port}-${p.host_port_end}`;
  const to = p.container_port === p.container_port_end ? p.container_port : `${p.container_port}-${p.container_port_end}`;
  return `${p.host_ip ? `${p.host_ip}:` : ''}${host}→${to}${p.proto === 'tcp' ? '' : `/${p.proto}`}`;
}

let drawn = []; // lines between the columns

// wire draws the lines from the world to the hub and on to the networks, where
// the boxes are.
function wire() {
  if (!root.clientWidth || root.closest('[hidden]')) return;
  const box = root.getBoundingClientRect();
  const place = (n) => {
    const r = n.getBoundingClientRect();
    return { l: r.left - box.left, r: r.right - box.left, t: r.top - box.top, b: r.bottom - box.top, y: r.top - box.top + r.height / 2 };
  };
  const h = place(hub), narrow = getComputedStyle(hub).display === 'none';
  attr(wires, 'viewBox', `0 0 ${box.width} ${box.height}`);
  const lines = [];
  if (!narrow) {
    for (const u of uplinks) {
      const p = place(u.node);
      lines.push({ from: [p.r, p.y], to: [h.l, h.y], rate: () => { const q = live.ports.get(u.name); return [q?.rx || 0, q?.tx || 0]; } });
    }
    for (const c of cards.values()) {
      const p = place(c.node), y = p.t + 34;
      lines.push({ from: [h.r, h.y], to: [p.l, y], bend: y - h.y > 24 ? h.r + 20 : undefined, rate: () => [c.down, c.up], cut: c.net.internal, label: true });
    }
  } else {
    const x = 9, top = uplinks.length ? place(uplinks.at(-1).node).b : 0;
    for (const c of cards.values()) {
      const p = place(c.node);
      lines.push({ from: [x, top], to: [p.l, p.t + 28], bend: x, rate: () => [c.down, c.up], cut: c.net.internal });
    }
  }
  drawn = lines.map((l) => {
    const [x0, y0] = l.from, [x1, y1] = l.to;
    const path = (o) => (l.bend === undefined ? curve(x0, y0 + o, x1, y1 + o) : trunk(x0, y0, x1, y1, l.bend, o));
    const cls = l.cut ? ' cut' : '';
    const inn = svg('path', { class: `line in${cls}`, d: path(-3.5) }), out = svg('path', { class: `line out${cls}`, d: path(3.5) });
    const innFlow = svg('path', { class: 'flow in', d: path(-3.5) }), outFlow = svg('path', { class: 'flow out', d: path(3.5) });
    const group = [inn, out, innFlow, outFlow];
    let down, up;
    if (l.label && x1 - x0 > 90) {
      down = svg('text', { class: 'wire-label in-text', x: x1 - 10, y: y1 - 10, 'text-anchor': 'end' });
      up = svg('text', { class: `wire-label ${l.cut ? 'muted-text' : 'out-text'}`, x: x1 - 10, y: y1 + 20, 'text-anchor': 'end' });
      group.push(down, up);
    }
    return { ...l, group, inn, out, innFlow, outFlow, down, up };
  });
  wires.replaceChildren(...drawn.flatMap((d) => d.group));
  updateWires();
}

const curve = (x0, y0, x1, y1) => `M${x0} ${y0}C${(x0 + x1) / 2} ${y0} ${(x0 + x1) / 2} ${y1} ${x1} ${y1}`;

// trunk goes to the bend, down along it and out to the right, one lane of two that
// stay beside each other round the corners.
function trunk(x0, y0, x1, y1, bend, o) {
  const x = bend - o, y = y1 + o, r = 9;
  const start = x0 === bend ? `M${x} ${y0}` : `M${x0} ${y0 + o}H${x - r}Q${x} ${y0 + o} ${x} ${y0 + o + r}`;
  return `${start}V${y - r}Q${x} ${y} ${x + r} ${y}H${x1}`;
}

function updateWires() {
  for (const d of drawn) {
    const [down, up] = d.rate();
    loud(d.inn, d.innFlow, d.cut ? 0 : down);
    loud(d.out, d.outFlow, d.cut ? 0 : up);
    if (d.down) {
      text(d.down, d.cut ? '' : `↓ ${bitsShort(down)}`);
      text(d.up, d.cut ? 'no way out' : `↑ ${bitsShort(up)}`);
    }
  }
}

function update() {
  for (const u of uplinks) {
    const p = live.ports.get(u.name);
    text(u.down, bits(p?.rx || 0));
    text(u.up, bits(p?.tx || 0));
  }
  for (const c of cards.values()) c.draw();
  updateWires();
}
export { wire };
