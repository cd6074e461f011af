// Drops by reason, with what each means.
import { el, text, count, whole } from './dom.js';
import { live, on } from './live.js';
import { reasons } from './reasons.js';

const rows = new Map();

export function drops(root, note) {
  const list = el('ul', { class: 'drop-list' });
  root.append(list);
  on('counts', () => {
    const all = [...live.drops].filter(([, d]) => d.total > 0).sort((a, b) => b[1].total - a[1].total || (a[0] < b[0] ? -1 : 1));
    const top = Math.max(1, ...all.map(([, d]) => d.total));
    text(note, all.length ? `${whole(all.reduce((n, [, d]) => n + d.total, 0))} since the daemon began` : 'none since the daemon began');
    for (const [reason, d] of all) {
      let row = rows.get(reason);
      if (!row) {
        const bar = el('span', { class: 'drop-fill' }), total = el('span', { class: 'num' }), rate = el('span', { class: 'num drop-rate' });
        const node = el('li', {}, el('div', { class: 'drop-name' }, el('code', {}, reason), total, rate),
          el('div', { class: 'drop-bar' }, bar), el('p', { class: 'muted' }, reasons[reason]?.means || ''),
          el('p', { class: 'muted drop-do' }, reasons[reason]?.do || ''));
        row = { node, bar, total, rate };
        rows.set(reason, row);
      }
      text(row.total, whole(d.total));
      text(row.rate, d.rate > 0 ? `${count(d.rate)} /s` : '');
      row.bar.style.width = `${Math.max(0.5, (100 * d.total) / top).toFixed(2)}%`;
      row.node.classList.toggle('now', d.rate > 0);
    }
    // Totals only grow: the order changes rarely, and then in place.
    all.forEach(([reason], i) => {
      const { node } = rows.get(reason);
      if (list.children[i] !== node) list.insertBefore(node, list.children[i] || null);
    });
  });
}
