// The live state: one stream of events for the whole page. It holds the topology
// (networks, containers, ports), the counters, and of those the rates.

import { ask } from './ask.js';

export const live = {
  topology: null, // {info, networks, containers, ports}
  byName: new Map(), // container by name
  ports: new Map(), // interface -> {kind, network, container, rx, tx, rxf, txf, drop, drops, history}
  drops: new Map(), // reason -> {total, rate}
  connections: 0,
  published: {}, // "web tcp 8080" -> bytes a second
  events: [], // newest first
  history: [], // of the uplinks and the whole, one a second
};

export const seconds = 60;
const keepEvents = 500;

const target = new EventTarget();

// on calls fn for "topology", "counts", "event" and "state".
export function on(type, fn) { target.addEventListener(type, (e) => fn(e.detail)); }
function say(type, detail) { target.dispatchEvent(new CustomEvent(type, { detail })); }

let stream = null; // what ends the stream that is open
let at = 0;
const pause = 3000; // before another try

export function start() {
  document.addEventListener('visibilitychange', () => (document.hidden ? close() : open()));
  open();
}

// A page that nobody sees holds no connection: a browser has six for a host.
function close() {
  stream?.abort();
  stream = null;
  at = 0;
}

const takers = { topology: takeTopology, counts: takeCounts, event: takeEvent };

// open reads the stream until it is closed, and again after it broke. EventSource would
// not show the token.
async function open() {
  if (stream) return;
  const mine = stream = new AbortController();
  while (stream === mine) {
    try {
      const r = await ask('/page/live', { signal: mine.signal });
      if (r.ok) {
        say('state', 'live');
        await follow(r.body.pipeThrough(new TextDecoderStream()).getReader());
      }
      say('state', r.ok ? 'lost' : 'refused');
    } catch {
      if (stream === mine) say('state', 'lost');
    }
    at = 0;
    await new Promise((done) => setTimeout(done, pause));
  }
}

// follow takes the messages of an event stream: lines "event: NAME" and "data: JSON",
// an empty one between two.
async function follow(reader) {
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const messages = (rest + value).split('\n\n');
    rest = messages.pop();
    for (const m of messages) {
      const [, name, data] = /^event: (\w+)\ndata: (.*)$/s.exec(m) || [];
      if (data) takers[name]?.(JSON.parse(data));
    }
  }
}

function takeTopology(w) {
  live.topology = w;
  live.byName = new Map(w.containers.map((c) => [c.name, c]));
  const ports = new Map();
  for (const p of w.ports) {
    const old = live.ports.get(p.port);
    ports.set(p.port, Object.assign(old || { rx: 0, tx: 0, rxf: 0, txf: 0, drop: 0, drops: {}, quiet: 0, last: null, history: [] }, p));
  }
  live.ports = ports;
  say('topology');
}

const dropped = (c) => (c.kd || 0) + Object.values(c.d || {}).reduce((a, b) => a + b, 0);

function takeCounts(c) {
  const dt = at ? (c.at - at) / 1000 : 0;
  at = c.at;
  if (dt > 0 && dt < 0.2) return; // two at once after a pause
  const all = { down: 0, up: 0, frames: 0, drops: 0 };
  for (const [name, p] of live.ports) {
    const now = c.ports[name], was = p.last;
    if (now && was && dt > 0 && now.rf >= was.rf) {
      p.rx = (now.rb - was.rb) / dt;
      p.tx = (now.tb - was.tb) / dt;
      p.rxf = (now.rf - was.rf) / dt;
      p.txf = (now.tf - was.tf) / dt;
      p.drop = (dropped(now) - dropped(was)) / dt;
    } else if (dt > 0 || !was) {
      p.rx = p.tx = p.rxf = p.txf = p.drop = 0;
    }
    if (now) { p.last = now; p.drops = now.d || {}; }
    push(p.history, { rx: p.rx, tx: p.tx });
    if (p.kind === 'uplink') { all.down += p.rx; all.up += p.tx; }
    all.frames += p.rxf;
    all.drops += p.drop;
  }
  for (const [reason, total] of Object.entries(c.drops)) {
    const d = live.drops.get(reason) || { total: 0, rate: 0, seen: false };
    d.rate = d.seen && dt > 0 ? Math.max(0, total - d.total) / dt : 0;
    d.total = total;
    d.seen = true;
    live.drops.set(reason, d);
  }
  live.connections = c.connections;
  live.published = c.published || {};
  all.connections = c.connections;
  push(live.history, all);
  say('counts');
}

function takeEvent(e) {
  if (live.events.some((o) => o.seq === e.seq)) return;
  live.events.unshift(e);
  live.events.length = Math.min(live.events.length, keepEvents);
  say('event', e);
}

function push(list, v) {
  list.push(v);
  if (list.length > seconds) list.shift();
}

// portsOf are the ports of a container.
export function portsOf(name) {
  return [...live.ports.values()].filter((p) => p.container === name);
}
