// Small curves of the last minute.
import { svg, attr } from './dom.js';
import { seconds } from './live.js';

const W = 120, H = 32;

// spark makes a curve with one line for each class; draw(lists) sets them.
export function spark(...classes) {
  const areas = classes.map((c) => svg('path', { class: `spark-area ${c}` }));
  const lines = classes.map((c) => svg('path', { class: `spark-line ${c}` }));
  const root = svg('svg', { class: 'spark', viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' }, areas, lines);
  return {
    root,
    draw(...lists) {
      const top = Math.max(1, ...lists.flat());
      lists.forEach((list, i) => {
        const step = W / (seconds - 1), from = W - (list.length - 1) * step;
        const points = list.map((v, k) => `${(from + k * step).toFixed(1)} ${(H - 2 - (v / top) * (H - 5)).toFixed(1)}`);
        if (!points.length) return;
        attr(lines[i], 'd', `M${points.join('L')}`);
        attr(areas[i], 'd', `M${from.toFixed(1)} ${H}L${points.join('L')}L${W} ${H}Z`);
      });
    },
  };
}
