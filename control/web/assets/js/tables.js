// The three tables.
import { el, bits, bytes, count, age } from './dom.js';
import { table } from './table.js';
import { openDrawer } from './drawer.js';
import { live } from './live.js';

const name = (n) => (n && live.byName.has(n) ? el('button', { type: 'button', class: 'link', onclick: () => openDrawer(n) }, n) : n || '–');
const states = { established: 'good', replied: 'good', init: 'warn', unreplied: 'warn', closing: 'dim', transitory: 'dim' };

export function flows(root) {
  return table(root, {
    title: 'Flows', path: '/page/table/flows', sort: 'rate', desc: true, hint: 'container, address, port, protocol …',
    empty: 'No container has a connection.',
    columns: [
      { key: 'container', title: 'Container', show: name },
      { key: 'direction', title: '', cls: 'dir', show: (d) => (d === 'in' ? '←' : '→') },
      { key: 'peer_address', title: 'Peer', cls: 'mono', show: (a, r) => (r.peer ? el('span', {}, el('b', { class: 'peer' }, r.peer), ` ${a}`) : a) },
      { key: 'proto', title: 'Protocol' },
      { key: 'state', title: 'State', tone: (s) => states[s] },
      { key: 'kind', title: 'Kind', cls: 'wide' },
      { key: 'address', title: 'Address', cls: 'mono wide' },
      { key: 'outside', title: 'Outside', cls: 'mono wide', show: (v) => v || '–' },
      { key: 'received_bytes', title: 'In', num: true, show: bytes },
      { key: 'sent_bytes', title: 'Out', num: true, show: bytes },
      { key: 'rate', title: 'Rate', num: true, show: (v) => (v > 0 ? bits(v) : '–') },
      { key: 'age', title: 'Age', num: true, show: age },
    ],
  });
}

export function nat(root) {
  return table(root, {
    title: 'NAT', path: '/page/table/nat', sort: 'age', desc: false, hint: 'container, address, port, kind …',
    empty: 'No connection is translated now.',
    columns: [
      { key: 'container', title: 'Container', show: name },
      { key: 'kind', title: 'Kind' },
      { key: 'proto', title: 'Protocol' },
      { key: 'source', title: 'From', cls: 'mono' },
      { key: 'destination', title: 'To', cls: 'mono' },
      { key: 'nat_source', title: 'From after', cls: 'mono' },
      { key: 'nat_destination', title: 'To after', cls: 'mono' },
      { key: 'state', title: 'State', tone: (s) => states[s] },
      { key: 'packets', title: 'Packets', num: true, show: count },
      { key: 'bytes', title: 'Bytes', num: true, show: bytes },
      { key: 'age', title: 'Age', num: true, show: age },
      { key: 'expires', title: 'Expires', num: true, show: age },
    ],
  });
}

export function macs(root) {
  return table(root, {
    title: 'MAC tables', path: '/page/table/fdb', sort: 'network', hint: 'MAC, container, network, static …',
    empty: 'No station is known.',
    columns: [
      { key: 'network', title: 'Network' },
      { key: 'vlan', title: 'VLAN', num: true, show: (v) => v || '–' },
      { key: 'mac', title: 'MAC', cls: 'mono' },
      { key: 'container', title: 'Container', show: name },
      { key: 'port', title: 'Port', cls: 'mono' },
      { key: 'static', title: 'Type', show: (s) => (s ? 'static' : 'learned') },
      { key: 'age', title: 'Last heard', num: true, show: (v, r) => (r.static ? '–' : `${age(v)} ago`) },
    ],
  });
}
