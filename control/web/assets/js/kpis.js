// The five numbers above the map.
import { el, text, bits, count, whole } from './dom.js';
import { live, on } from './live.js';
import { spark } from './spark.js';

const cards = [
  { title: 'From the world', cls: 'in', value: (h) => h.down, show: bits },
  { title: 'To the world', cls: 'out', value: (h) => h.up, show: bits },
  { title: 'Frames', cls: 'plain', value: (h) => h.frames, show: (n) => `${count(n)} /s` },
  { title: 'Dropped', cls: 'bad', value: (h) => h.drops, show: (n) => `${count(n)} /s` },
  { title: 'Connections', cls: 'plain', value: (h) => h.connections, show: whole },
];

export function kpis(root) {
  for (const c of cards) {
    c.curve = spark(c.cls);
    c.node = el('strong', { class: 'kpi-value' }, '–');
    root.append(el('div', { class: 'panel kpi' }, el('span', { class: 'kpi-title' }, c.title), c.node, c.curve.root));
  }
  on('counts', () => {
    const last = live.history.at(-1);
    for (const c of cards) {
      text(c.node, c.show(c.value(last)));
      c.node.classList.toggle('alarm', c.cls === 'bad' && c.value(last) > 0);
      c.curve.draw(live.history.map(c.value));
    }
  });
}
