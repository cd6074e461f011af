// A table of the daemon that is searched, sorted and cut into pages there: a
// hundred rows are drawn, however many there are.
import { el, text, every, whole } from './dom.js';
import { json } from './ask.js';

const pageSize = 100, period = 2000;

// table fills root. spec: {path, columns: [{key, title, show, cls, num}], sort,
// desc, empty, hint}. It returns open(params), to be called when the view is.
export function table(root, spec) {
  let q = '', sort = spec.sort || '', desc = Boolean(spec.desc), offset = 0, paused = false, total = 0, matched = 0;
  const search = el('input', { type: 'search', placeholder: spec.hint, 'aria-label': `Search ${spec.title}`, autocomplete: 'off', spellcheck: 'false' });
  const summary = el('p', { class: 'muted num', role: 'status' });
  const pause = el('button', { type: 'button', class: 'quiet', 'aria-pressed': 'false' }, 'Pause');
  const prev = el('button', { type: 'button', class: 'quiet', 'aria-label': 'Earlier rows' }, '‹');
  const next = el('button', { type: 'button', class: 'quiet', 'aria-label': 'Later rows' }, '›');
  const body = el('tbody');
  const heads = spec.columns.map((c) => {
    const b = el('button', { type: 'button', class: 'sort', onclick: () => { if (sort === c.key) desc = !desc; else { sort = c.key; desc = Boolean(c.num); } offset = 0; mark(); load(); } }, c.title);
    return el('th', { scope: 'col', class: `${c.cls || ''} ${c.num ? 'right' : ''}` }, b);
  });
  const frame = el('div', { class: 'table-box', tabindex: '0', role: 'region', 'aria-label': spec.title },
    el('table', {}, el('thead', {}, el('tr', {}, heads)), body));
  const none = el('p', { class: 'empty muted', hidden: true });
  root.append(el('header', { class: 'view-head' }, el('h1', {}, spec.title), summary, el('span', { class: 'grow' }), search, pause, prev, next), el('div', { class: 'panel flush' }, frame, none));

  function mark() {
    spec.columns.forEach((c, i) => {
      if (c.key === sort) heads[i].setAttribute('aria-sort', desc ? 'descending' : 'ascending');
      else heads[i].removeAttribute('aria-sort');
    });
  }

  let wanted = 0, asked = null;
  async function load() {
    const mine = ++wanted;
    asked?.abort(); // the daemon need not look any more
    asked = new AbortController();
    const p = new URLSearchParams({ q, sort, desc: desc ? '1' : '', offset, limit: pageSize });
    let got;
    try { got = await json(`${spec.path}?${p}`, { signal: asked.signal }); } catch (e) {
      if (mine !== wanted) return;
      text(summary, e.message);
      return;
    }
    if (mine !== wanted) return; // an older answer
    ({ total, matched } = got);
    draw(got.rows);
  }

  function draw(rows) {
    while (body.rows.length > rows.length) body.deleteRow(-1);
    rows.forEach((r, i) => {
      const tr = body.rows[i] || body.insertRow();
      spec.columns.forEach((c, k) => {
        const td = tr.cells[k] || tr.insertCell();
        if (!td.dataset.key) { td.dataset.key = c.key; td.className = `${c.cls || ''} ${c.num ? 'right num' : ''}`; }
        const v = c.show ? c.show(r[c.key], r) : r[c.key] ?? '';
        if (v instanceof Node) td.replaceChildren(v); else text(td, String(v));
        if (c.tone) td.dataset.tone = c.tone(r[c.key], r) || '';
      });
    });
    const last = Math.min(offset + rows.length, matched);
    text(summary, matched ? `${whole(offset + 1)}–${whole(last)} of ${whole(matched)}${matched < total ? ` (${whole(total)} in all)` : ''}` : '');
    none.hidden = matched > 0;
    text(none, total ? 'Nothing matches.' : spec.empty);
    prev.disabled = offset === 0;
    next.disabled = last >= matched;
  }

  let soon = 0; // a person types faster than a large table is searched
  search.addEventListener('input', () => { clearTimeout(soon); soon = setTimeout(() => { q = search.value; offset = 0; load(); }, 120); });
  prev.addEventListener('click', () => { offset = Math.max(0, offset - pageSize); frame.scrollTop = 0; load(); });
  next.addEventListener('click', () => { offset += pageSize; frame.scrollTop = 0; load(); });
  pause.addEventListener('click', () => { paused = !paused; pause.setAttribute('aria-pressed', String(paused)); text(pause, paused ? 'Resume' : 'Pause'); });
  mark();
  every(period, () => !root.hidden && !paused, load);
  return (params) => {
    if (params.has('q')) { search.value = q = params.get('q'); offset = 0; }
    load();
  };
}
