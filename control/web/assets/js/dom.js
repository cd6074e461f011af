// Elements and the words of numbers. Text is only ever set as text.

// el makes an element: attributes by name, on… are listeners, children are nodes
// or texts.
export function el(tag, attrs = {}, ...children) {
  const e = document.createElement(tag);
  return fill(e, attrs, children);
}

const SVG = 'http://www.w3.org/2000/svg';

export function svg(tag, attrs = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attrs, children);
}

function fill(e, attrs, children) {
  for (const [k, v] of Object.entries(attrs)) {
    if (k.startsWith('on')) e.addEventListener(k.slice(2), v);
    else if (v === true) e.setAttribute(k, '');
    else if (v !== false && v != null) e.setAttribute(k, v);
  }
  e.append(...children.flat().filter((c) => c != null && c !== false));
  return e;
}

export function icon(name) {
  return svg('svg', { class: 'icon', 'aria-hidden': 'true' }, svg('use', { href: `#i-${name}` }));
}

// text sets a node's text if it is another: an update that changes nothing costs
// no layout.
export function text(node, s) {
  if (node.textContent !== s) node.textContent = s;
}

export function attr(node, name, v) {
  if (node.getAttribute(name) !== v) node.setAttribute(name, v);
}

const units = ['', 'k', 'M', 'G', 'T', 'P'];

function scaled(n, step) {
  let u = 0;
  while (n >= 999.5 && u < units.length - 1) { n /= step; u++; }
  return [n >= 99.95 || u === 0 ? Math.round(n) : n >= 9.995 ? n.toFixed(1) : n.toFixed(2), units[u]];
}

// bits is a rate of bytes as people speak of links: 12.3 Mbit/s.
export function bits(bytesPerSecond) {
  const [n, u] = scaled(bytesPerSecond * 8, 1000);
  return `${n} ${u}bit/s`;
}

// bitsShort is the same where there is little room: 12M, 1.2M.
export function bitsShort(bytesPerSecond) {
  let n = bytesPerSecond * 8, u = 0;
  while (n >= 999.5 && u < units.length - 1) { n /= 1000; u++; }
  return `${n >= 9.95 || u === 0 ? Math.round(n) : n.toFixed(1)}${units[u]}`;
}

export function count(n) {
  if (n < 10000) return Math.round(n).toString();
  const [v, u] = scaled(n, 1000);
  return `${v}${u}`;
}

export function whole(n) { return Math.round(n).toLocaleString('en'); }

export function bytes(n) {
  const [v, u] = scaled(n, 1024);
  return `${v} ${u}${u ? 'iB' : 'B'}`.replace('kiB', 'KiB');
}

// age is a time in seconds: 12s, 3m 04s, 5h 12m, 3d 4h.
export function age(s) {
  s = Math.max(0, Math.floor(s));
  const two = (n) => String(n).padStart(2, '0');
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${two(s % 60)}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}h ${two(Math.floor(s / 60) % 60)}m`;
  return `${Math.floor(s / 86400)}d ${Math.floor(s / 3600) % 24}h`;
}

// level is how loud a rate is: 0 silent, 1 up to 1 kbit/s, and one more for each
// power of ten, 7 at most.
export function level(bytesPerSecond) {
  if (bytesPerSecond <= 0) return 0;
  return Math.min(7, Math.max(1, Math.ceil(Math.log10(bytesPerSecond * 8)) - 2));
}

// clock is a time of day to the ms.
export function clock(date) {
  const d = new Date(date), two = (n, w = 2) => String(n).padStart(w, '0');
  return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}.${two(d.getMilliseconds(), 3)}`;
}

// naturally orders web2 before web10.
export const naturally = new Intl.Collator('en', { numeric: true }).compare;

// every calls fn now and each period ms while it is wanted and the page is seen.
export function every(period, wanted, fn) {
  let busy = false;
  const tick = async () => {
    if (busy || document.hidden || !wanted()) return;
    busy = true;
    try { await fn(); } finally { busy = false; }
  };
  setInterval(tick, period);
  document.addEventListener('visibilitychange', tick);
  return tick;
}
