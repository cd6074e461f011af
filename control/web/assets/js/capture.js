// A live capture: frames in words as they come, and the file of all of them.
import { el, icon, text, bytes, whole, clock } from './dom.js';
import { ask, message } from './ask.js';
import { live, on } from './live.js';
import { Reader } from './pcapng.js';
import { decode, dump } from './decode.js';

const rowHeight = 26;
const mostPackets = 50000;
const mostBytes = 64 << 20;

// where is the port and the point; rx and tx say no more than the direction.
const where = (p) => `${p.dir} ${p.iface.replace(/ (rx|tx)$/, '')}`.trim();

export function capture(root) {
  let packets = [], chunks = [], size = 0, running = null, follow = true, chosen = -1, first = 0, dropped = 0;

  const name = el('input', { id: 'cap-name', list: 'cap-names', placeholder: 'web, network:bridge, uplink', autocomplete: 'off', spellcheck: 'false' });
  const names = el('datalist', { id: 'cap-names' });
  const filter = el('input', { id: 'cap-filter', class: 'mono', placeholder: 'tcp port 80 and host 10.0.0.2', autocomplete: 'off', spellcheck: 'false' });
  const snap = el('input', { id: 'cap-snap', type: 'number', min: '0', max: '65535', placeholder: 'all', inputmode: 'numeric' });
  const points = ['rx', 'tx', 'drop', 'prenat', 'postnat'].map((value) => el('input', { type: 'checkbox', value, checked: value === 'rx' || value === 'tx' }));
  const pointNames = ['in', 'out', 'dropped', 'before NAT', 'after NAT'];
  const go = el('button', { type: 'submit', class: 'primary' }, 'Start');
  const save = el('button', { type: 'button', class: 'quiet with-icon', id: 'cap-save', disabled: true }, icon('save'), 'Download');
  const clear = el('button', { type: 'button', class: 'quiet', disabled: true }, 'Clear');
  const status = el('p', { class: 'muted num', role: 'status', id: 'cap-status' }, 'Not running.');
  const form = el('form', { class: 'panel form' },
    el('div', { class: 'field' }, el('label', { for: 'cap-name' }, 'Of'), name, names),
    el('div', { class: 'field grow' }, el('label', { for: 'cap-filter' }, 'Filter'), filter),
    el('fieldset', { class: 'points' }, el('legend', {}, 'Points'), points.map((c, i) => el('label', {}, c, pointNames[i]))),
    el('div', { class: 'field short' }, el('label', { for: 'cap-snap' }, 'Bytes of each'), snap),
    el('div', { class: 'buttons' }, go, clear, save));
  const space = el('div', { class: 'space' }), rows = el('div', { class: 'vrows', role: 'list' });
  const box = el('div', { class: 'vbox', tabindex: '0', 'aria-label': 'Captured frames' }, space, rows);
  const empty = el('p', { class: 'empty muted' }, 'Name containers, network:NAME or uplink, with commas between them, or nothing for every port, and start.');
  const detail = el('div', { class: 'panel detail', hidden: true });
  root.append(el('header', { class: 'view-head' }, el('h1', {}, 'Capture'), status), form,
    el('div', { class: 'panel flush' }, el('div', { class: 'vhead', 'aria-hidden': 'true' }, el('span', {}, 'Time'), el('span', {}, 'Where'), el('span', {}, 'Frame')), box, empty), detail);

  on('topology', () => {
    const list = live.topology.containers.filter((c) => c.endpoints.length).map((c) => c.name);
    if (list.join() !== names.dataset.list) {
      names.dataset.list = list.join();
      names.replaceChildren(...['uplink', ...live.topology.networks.map((n) => `network:${n.name}`), ...list.slice(0, 1000)].map((n) => el('option', { value: n })));
    }
  });

  form.addEventListener('submit', (e) => {
    e.preventDefault();
    if (running) running.abort(); else start();
  });
  clear.addEventListener('click', () => {
    if (running) return;
    reset();
    text(status, 'Not running.');
  });
  save.addEventListener('click', () => {
    const a = el('a', { href: URL.createObjectURL(new Blob(chunks, { type: 'application/x-pcapng' })), download: fileName() });
    a.click();
    setTimeout(() => URL.revokeObjectURL(a.href), 60000);
  });

  function fileName() {
    const who = name.value.trim().replace(/[^\w.-]+/g, '-') || 'all';
    return `vswitch-${who}-${new Date().toISOString().slice(0, 19).replace(/[:T]/g, '-')}.pcapng`;
  }

  function reset() {
    packets = []; chunks = []; size = 0; chosen = -1; follow = true; dropped = 0;
    detail.hidden = true;
    save.disabled = clear.disabled = true;
    empty.hidden = false;
    draw();
  }

  async function start() {
    reset();
    running = new AbortController();
    text(go, 'Stop');
    go.classList.add('recording');
    text(status, 'Starting …');
    const p = new URLSearchParams();
    for (const n of name.value.split(/[\s,]+/).filter(Boolean)) p.append('target', n);
    if (filter.value.trim()) p.set('filter', filter.value.trim());
    if (snap.value) p.set('snaplen', snap.value);
    for (const c of points) if (c.checked) p.append('point', c.value);
    let end = 'Stopped.';
    try {
      const r = await ask(`/v1/capture?${p}`, { signal: running.signal });
      if (!r.ok) throw new Error(await message(r));
      const reader = r.body.getReader(), ng = new Reader();
      say('Capturing.');
      for (;;) {
        const { done, value } = await reader.read();
        if (done) { end = 'The daemon ended it.'; break; }
        take(ng, value);
        if (packets.length >= mostPackets || size >= mostBytes) {
          end = `Stopped: ${packets.length >= mostPackets ? whole(mostPackets) + ' frames' : bytes(mostBytes)} are as much as a page should hold.`;
          running.abort();
          break;
        }
      }
    } catch (e) {
      if (e.name !== 'AbortError') end = e.message;
    }
    running = null;
    text(go, 'Start');
    go.classList.remove('recording');
    clear.disabled = false;
    say(end);
  }

  function say(what) {
    text(status, `${what} ${whole(packets.length)} frame${packets.length === 1 ? '' : 's'}, ${bytes(size)}${dropped ? `, ${whole(dropped)} lost` : ''}`);
  }

  let due = false;
  function take(ng, value) {
    const got = ng.push(value);
    if (got.blocks.length) { chunks.push(got.blocks); size += got.blocks.length; }
    packets.push(...got.packets);
    dropped = ng.dropped;
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      save.disabled = packets.length === 0;
      if (running) say('Capturing.');
      draw();
    });
  }

  // Only the rows in sight exist.
  function draw() {
    empty.hidden = packets.length > 0;
    box.classList.toggle('filled', packets.length > 0);
    space.style.height = `${packets.length * rowHeight}px`;
    if (follow) box.scrollTop = box.scrollHeight;
    first = Math.max(0, Math.floor(box.scrollTop / rowHeight) - 4);
    const n = Math.min(packets.length - first, Math.ceil(box.clientHeight / rowHeight) + 8);
    rows.style.transform = `translateY(${first * rowHeight}px)`;
    while (rows.children.length > Math.max(0, n)) rows.lastChild.remove();
    for (let i = 0; i < n; i++) {
      let r = rows.children[i];
      if (!r) {
        r = el('button', { type: 'button', class: 'vrow', role: 'listitem', tabindex: '-1' }, el('span', { class: 'mono muted' }), el('span', { class: 'vwhere' }), el('span', { class: 'mono vline' }));
        r.addEventListener('click', () => choose(Number(r.dataset.at)));
        rows.append(r);
      }
      const at = first + i, p = packets[at];
      p.words ||= decode(p);
      if (r.dataset.at !== String(at) || r.shown !== p) {
        r.dataset.at = at;
        r.shown = p;
        text(r.children[0], clock(p.time));
        text(r.children[1], where(p));
        text(r.children[2], p.words.line + (p.comments.length ? `  # ${p.comments.join(' ')}` : ''));
        r.dataset.proto = p.words.proto;
        r.classList.toggle('dropped', p.comments.some((c) => c.startsWith('dropped')));
      }
      r.classList.toggle('chosen', at === chosen);
    }
  }
  box.addEventListener('scroll', () => {
    follow = box.scrollTop + box.clientHeight >= box.scrollHeight - rowHeight;
    requestAnimationFrame(draw);
  });
  box.addEventListener('keydown', (e) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 20, PageUp: -20 }[e.key];
    if (!step || !packets.length) return;
    e.preventDefault();
    choose(Math.max(0, Math.min(packets.length - 1, chosen + step)));
    const y = chosen * rowHeight;
    if (y < box.scrollTop) box.scrollTop = y;
    if (y + rowHeight > box.scrollTop + box.clientHeight) box.scrollTop = y + rowHeight - box.clientHeight;
  });

  function choose(i) {
    chosen = i;
    follow = false;
    const p = packets[i];
    const d = p.words || decode(p);
    detail.hidden = false;
    detail.replaceChildren(
      el('h2', {}, `Frame ${whole(i + 1)}`, el('span', { class: 'muted' }, ` ${where(p)}, ${p.size} bytes`)),
      ...p.comments.map((c) => el('p', { class: 'comment' }, c)),
      el('div', { class: 'layers' },
        el('div', {}, ...d.layers.map((l) => el('details', { open: true }, el('summary', {}, l.name),
          el('dl', {}, l.fields.flatMap(([k, v]) => [el('dt', {}, k), el('dd', { class: 'mono' }, String(v))]))))),
        el('pre', { class: 'mono', tabindex: '0', 'aria-label': 'The frame in hexadecimal' }, dump(p.data))));
    draw();
  }

  new ResizeObserver(() => draw()).observe(box);
  return (params) => {
    if (params.has('name') && !running) name.value = params.get('name');
    if (params.has('filter') && !running) filter.value = params.get('filter');
    draw();
  };
}
