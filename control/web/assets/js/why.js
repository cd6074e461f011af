// What would become of a packet, and what became of the last that were dropped.
import { el, text, every, whole, age } from './dom.js';
import { json } from './ask.js';
import { live, on } from './live.js';

const words = {
  sent: ['good', 'Sent'], host: ['good', 'Delivered to the host'], flooded: ['good', 'Flooded'], answered: ['good', 'Answered by the switch'],
  waits: ['warn', 'Waits'], dropped: ['bad', 'Dropped'], 'not-sent': ['bad', 'Not even sent'],
};

export function why(root) {
  const from = el('input', { id: 'why-from', list: 'why-names', required: true, placeholder: 'web, host, outside:198.51.100.9', autocomplete: 'off', spellcheck: 'false' });
  const to = el('input', { id: 'why-to', list: 'why-targets', required: true, placeholder: '1.1.1.1:443, db:5432, 10.88.0.2', autocomplete: 'off', spellcheck: 'false' });
  const names = el('datalist', { id: 'why-names' }), targets = el('datalist', { id: 'why-targets' });
  const ask = el('button', { type: 'submit', class: 'primary' }, 'Ask');
  const form = el('form', { class: 'panel form' },
    el('div', { class: 'field' }, el('label', { for: 'why-from' }, 'From'), from, names),
    el('div', { class: 'field' }, el('label', { for: 'why-to' }, 'To'), to, targets),
    el('div', { class: 'buttons' }, ask));
  const answer = el('div', { id: 'why-answer', 'aria-live': 'polite' });
  const list = el('ul', { class: 'last-drops' }), none = el('p', { class: 'empty muted' }, 'Nothing was dropped.');
  root.append(el('header', { class: 'view-head' }, el('h1', {}, 'Why'), el('p', { class: 'muted' }, 'The stages of the switch decide about a made-up packet. Nothing is sent, nothing changes.')),
    form, answer, el('div', { class: 'panel flush' }, el('header', { class: 'panel-head' }, el('h2', {}, 'Last dropped frames')), list, none));

  on('topology', () => {
    const all = live.topology.containers.filter((c) => c.endpoints.length).map((c) => c.name).slice(0, 1000);
    if (all.join() === names.dataset.list) return;
    names.dataset.list = all.join();
    names.replaceChildren(...['host', 'outside', ...all].map((n) => el('option', { value: n })));
    targets.replaceChildren(...all.map((n) => el('option', { value: n })));
  });

  form.addEventListener('submit', async (e) => {
    e.preventDefault();
    ask.disabled = true;
    try {
      const p = new URLSearchParams({ from: from.value.trim(), to: to.value.trim() });
      answer.replaceChildren(show(await json(`/v1/why?${p}`)));
    } catch (err) {
      answer.replaceChildren(el('section', { class: 'panel verdict bad' }, el('p', {}, err.message)));
    }
    ask.disabled = false;
  });

  function show(w) {
    const [tone, word] = words[w.verdict] || ['warn', w.verdict];
    return el('section', { class: 'panel way' },
      el('header', {}, el('h2', {}, `${w.from} → ${w.to}`), w.packet ? el('p', { class: 'mono muted' }, w.packet) : null),
      el('ol', { class: 'steps' }, w.steps.map((s) => el('li', {}, el('span', { class: 'stage' }, s.stage), el('span', { class: 'chip' }, s.table), el('span', { class: 'what' }, s.text)))),
      el('div', { class: `verdict ${tone}` },
        el('p', {}, el('b', {}, word), w.output ? ` to ${w.output}` : '', w.reason ? [' ', el('code', {}, w.reason)] : ''),
        w.sent ? el('p', { class: 'mono muted' }, `as ${w.sent}`) : null,
        w.explanation ? el('p', {}, w.explanation) : null,
        w.fix ? el('p', { class: 'fix' }, w.fix) : null));
  }

  const seen = new Map();
  async function drops() {
    let got;
    try { got = await json('/v1/drops'); } catch { return; }
    got = got.slice(0, 50);
    none.hidden = got.length > 0;
    const wanted = got.map((d) => {
      const key = JSON.stringify([d.reason, d.interface, d.container, d.source, d.destination, d.source_mac, d.proto]);
      let row = seen.get(key);
      if (!row) {
        row = { when: el('span', { class: 'num muted' }), count: el('span', { class: 'num' }) };
        row.node = el('li', {}, el('div', { class: 'drop-name' }, el('code', { class: 'bad-text' }, d.reason), row.count, row.when),
          el('p', { class: 'mono' }, `${d.container ? `${d.container} ` : `${d.interface} `}${d.proto || 'frame'} ${d.source || d.source_mac} → ${d.destination || d.destination_mac}${d.peer ? ` (${d.peer})` : ''}`),
          el('p', { class: 'muted' }, d.explanation), d.fix ? el('p', { class: 'fix' }, d.fix) : null);
        seen.set(key, row);
      }
      text(row.when, `${age((Date.now() - new Date(d.time)) / 1000)} ago`);
      text(row.count, d.count > 1 ? `${whole(d.count)}×` : '');
      return row;
    });
    [...new Set(wanted)].forEach((r, i) => { if (list.children[i] !== r.node) list.insertBefore(r.node, list.children[i] || null); });
    while (list.children.length > new Set(wanted).size) list.lastChild.remove();
    if (seen.size > 500) seen.clear();
  }
  every(3000, () => !root.hidden, drops);

  return (params) => {
    if (params.has('from')) from.value = params.get('from');
    if (params.has('to')) to.value = params.get('to');
    drops();
    if (params.has('from') && params.has('to')) form.requestSubmit();
  };
}
