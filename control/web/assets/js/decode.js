// Frames in words: a line as tcpdump would write it, and the layers with their
// fields. What is cut or malformed ends the decoding, never the page.

const hex = (n, w = 2) => n.toString(16).padStart(w, '0');
const mac = (d, at) => [...d.subarray(at, at + 6)].map((b) => hex(b)).join(':');
const u16 = (d, at) => (d[at] << 8) | d[at + 1];
const u32 = (d, at) => (u16(d, at) * 65536) + u16(d, at + 2);
const ip4 = (d, at) => d.subarray(at, at + 4).join('.');

function ip6(d, at) {
  const words = Array.from({ length: 8 }, (_, i) => u16(d, at + 2 * i));
  let best = [-1, 1];
  for (let i = 0; i < 8; i++) {
    let j = i;
    while (j < 8 && words[j] === 0) j++;
    if (j - i > best[1]) best = [i, j - i];
  }
  const text = (list) => list.map((w) => w.toString(16)).join(':');
  if (best[0] < 0) return text(words);
  return `${text(words.slice(0, best[0]))}::${text(words.slice(best[0] + best[1]))}`;
}

const protos = { 1: 'ICMP', 2: 'IGMP', 6: 'TCP', 17: 'UDP', 47: 'GRE', 50: 'ESP', 58: 'ICMPv6', 132: 'SCTP' };
const types = { 0x0800: 'IPv4', 0x0806: 'ARP', 0x86dd: 'IPv6', 0x8100: 'VLAN', 0x88a8: 'VLAN' };
const icmp4 = { 0: 'echo reply', 3: 'unreachable', 4: 'source quench', 5: 'redirect', 8: 'echo request', 11: 'time exceeded', 12: 'parameter problem', 13: 'timestamp request', 14: 'timestamp reply' };
const unreachable4 = { 0: 'net unreachable', 1: 'host unreachable', 2: 'protocol unreachable', 3: 'port unreachable', 4: 'fragmentation needed', 9: 'net prohibited', 10: 'host prohibited', 13: 'admin prohibited' };
const icmp6 = { 1: 'unreachable', 2: 'packet too big', 3: 'time exceeded', 4: 'parameter problem', 128: 'echo request', 129: 'echo reply', 130: 'multicast listener query', 131: 'multicast listener report', 133: 'router solicitation', 134: 'router advertisement', 135: 'neighbor solicitation', 136: 'neighbor advertisement', 137: 'redirect', 143: 'multicast listener report v2' };

// decode returns {line, proto, layers: [{name, fields: [[name, value]], from, to}]}.
export function decode(p) {
  const out = { line: '', proto: 'other', layers: [] };
  try { ethernet(p.data, p.size, out); } catch { out.line ||= `malformed, length ${p.size}`; }
  if (p.data.length < p.size) out.line += ` [cut at ${p.data.length} of ${p.size}]`;
  return out;
}

function need(d, n) { if (d.length < n) throw new Error('cut'); }
function layer(out, name, from, to, fields) { out.layers.push({ name, from, to, fields }); }

function ethernet(d, size, out) {
  need(d, 14);
  const dst = mac(d, 0), src = mac(d, 6);
  let type = u16(d, 12), at = 14;
  out.line = `${src} > ${dst}, ethertype 0x${hex(type, 4)}, length ${size}`;
  layer(out, 'Ethernet', 0, 14, [['Source', src], ['Destination', dst], ['Type', `0x${hex(type, 4)} ${types[type] || ''}`]]);
  while (types[type] === 'VLAN') {
    need(d, at + 4);
    const tag = u16(d, at);
    type = u16(d, at + 2);
    layer(out, '802.1Q', at, at + 4, [['VLAN', tag & 4095], ['Priority', tag >> 13], ['Type', `0x${hex(type, 4)}`]]);
    at += 4;
  }
  if (type === 0x0806) arp(d, at, out);
  else if (type === 0x0800) ipv4(d, at, out);
  else if (type === 0x86dd) ipv6(d, at, out);
}

function arp(d, at, out) {
  need(d, at + 28);
  out.proto = 'arp';
  const op = u16(d, at + 6), from = ip4(d, at + 14), to = ip4(d, at + 24), who = mac(d, at + 8);
  out.line = op === 1 ? `ARP, Request who-has ${to} tell ${from}` : op === 2 ? `ARP, Reply ${from} is-at ${who}` : `ARP, operation ${op}`;
  layer(out, 'ARP', at, at + 28, [['Operation', op], ['Sender', `${from} ${who}`], ['Target', `${to} ${mac(d, at + 18)}`]]);
}

function ipv4(d, at, out) {
  need(d, at + 20);
  const head = (d[at] & 15) * 4, total = u16(d, at + 2), proto = d[at + 9], src = ip4(d, at + 12), dst = ip4(d, at + 16);
  const frag = u16(d, at + 6), offset = (frag & 0x1fff) * 8;
  layer(out, 'IPv4', at, at + head, [['Source', src], ['Destination', dst], ['Protocol', `${proto} ${protos[proto] || ''}`], ['TTL', d[at + 8]],
    ['Length', total], ['ID', u16(d, at + 4)], ['Flags', `${frag & 0x4000 ? 'DF ' : ''}${frag & 0x2000 ? 'MF' : ''}`.trim() || '–'], ['Offset', offset], ['TOS', `0x${hex(d[at + 1])}`]]);
  if (offset) { out.line = `IP ${src} > ${dst}: ${protos[proto] || proto}, fragment at ${offset}, length ${total - head}`; return; }
  transport(d, at + head, total - head, 'IP', src, dst, proto, out);
}

function ipv6(d, at, out) {
  need(d, at + 40);
  const src = ip6(d, at + 8), dst = ip6(d, at + 24), end = at + 40 + u16(d, at + 4);
  let next = d[at + 6];
  layer(out, 'IPv6', at, at + 40, [['Source', src], ['Destination', dst], ['Next header', `${next} ${protos[next] || ''}`], ['Hop limit', d[at + 7]], ['Length', u16(d, at + 4)], ['Flow', `0x${hex(u32(d, at) & 0xfffff, 5)}`]]);
  at += 40;
  for (let i = 0; i < 8 && [0, 43, 44, 60].includes(next); i++) {
    need(d, at + 8);
    const size = next === 44 ? 8 : 8 + d[at + 1] * 8, was = next;
    layer(out, { 0: 'Hop-by-hop', 43: 'Routing', 44: 'Fragment', 60: 'Destination options' }[next], at, at + size, [['Next header', d[at]]]);
    next = d[at];
    const offset = was === 44 ? u16(d, at + 2) & 0xfff8 : 0;
    at += size;
    if (offset) { out.line = `IP6 ${src} > ${dst}: ${protos[next] || next}, fragment at ${offset}, length ${end - at}`; return; }
  }
  transport(d, at, end - at, 'IP6', src, dst, next, out);
}

function transport(d, at, n, ip, src, dst, proto, out) {
  out.proto = (protos[proto] || 'ip').toLowerCase();
  out.line = `${ip} ${src} > ${dst}: ${protos[proto] || `protocol ${proto}`}, length ${n}`;
  if (proto === 6) tcp(d, at, n, ip, src, dst, out);
  else if (proto === 17) udp(d, at, n, ip, src, dst, out);
  else if (proto === 1) icmp(d, at, n, `${ip} ${src} > ${dst}: ICMP`, 'ICMP', icmp4, [8, 0], out);
  else if (proto === 58) icmp(d, at, n, `${ip} ${src} > ${dst}: ICMP6,`, 'ICMPv6', icmp6, [128, 129], out);
}

function tcp(d, at, n, ip, src, dst, out) {
  need(d, at + 20);
  const sp = u16(d, at), dp = u16(d, at + 2), seq = u32(d, at + 4), ack = u32(d, at + 8), head = (d[at + 12] >> 4) * 4, f = d[at + 13];
  const flags = [['F', 1], ['S', 2], ['R', 4], ['P', 8], ['U', 32], ['E', 64], ['W', 128]].filter(([, b]) => f & b).map(([c]) => c).join('');
  const shown = f & 16 ? `${flags}.` : flags || 'none';
  const len = n - head;
  out.line = `${ip} ${src}.${sp} > ${dst}.${dp}: Flags [${shown}], seq ${seq}${len > 0 ? `:${(seq + len) % 4294967296}` : ''}${f & 16 ? `, ack ${ack}` : ''}, win ${u16(d, at + 14)}, length ${len}`;
  layer(out, 'TCP', at, at + head, [['Source port', sp], ['Destination port', dp], ['Flags', `[${shown}]`], ['Sequence', seq], ['Acknowledged', ack], ['Window', u16(d, at + 14)], ['Options', `${head - 20} bytes`], ['Payload', `${len} bytes`]]);
  payload(d, at + head, len, out, [sp, dp]);
}

function udp(d, at, n, ip, src, dst, out) {
  need(d, at + 8);
  const sp = u16(d, at), dp = u16(d, at + 2), len = u16(d, at + 4) - 8;
  out.line = `${ip} ${src}.${sp} > ${dst}.${dp}: UDP, length ${len}`;
  layer(out, 'UDP', at, at + 8, [['Source port', sp], ['Destination port', dp], ['Length', len + 8], ['Checksum', `0x${hex(u16(d, at + 6), 4)}`]]);
  if (sp === 53 || dp === 53 || sp === 5353) dns(d, at + 8, `${ip} ${src}.${sp} > ${dst}.${dp}: `, out);
}

function icmp(d, at, n, line, name, names, echo, out) {
  need(d, at + 8);
  const type = d[at], code = d[at + 1];
  out.line = `${line} ${type === 3 && name === 'ICMP' ? unreachable4[code] || names[3] : names[type] || `type ${type}`}`;
  const fields = [['Type', `${type} ${names[type] || ''}`], ['Code', code]];
  if (echo.includes(type)) {
    out.line += `, id ${u16(d, at + 4)}, seq ${u16(d, at + 6)}`;
    fields.push(['Identifier', u16(d, at + 4)], ['Sequence', u16(d, at + 6)]);
  } else if (name === 'ICMPv6' && (type === 135 || type === 136) && d.length >= at + 24) {
    out.line += `, ${type === 135 ? 'who has' : 'tgt is'} ${ip6(d, at + 8)}`;
    fields.push(['Target', ip6(d, at + 8)]);
  }
  out.line += `, length ${n}`;
  layer(out, name, at, at + 8, fields);
}

const qtypes = { 1: 'A', 2: 'NS', 5: 'CNAME', 6: 'SOA', 12: 'PTR', 15: 'MX', 16: 'TXT', 28: 'AAAA', 33: 'SRV', 65: 'HTTPS' };
const rcodes = ['ok', 'FormErr', 'ServFail', 'NXDomain', 'NotImp', 'Refused'];

function dns(d, at, prefix, out) {
  if (d.length < at + 17) return;
  const flags = u16(d, at + 2), questions = u16(d, at + 4), answers = u16(d, at + 6);
  const labels = [];
  let i = at + 12;
  while (questions && d[i] && d[i] < 64 && i + d[i] < d.length) {
    labels.push([...d.subarray(i + 1, i + 1 + d[i])].map((c) => (c > 32 && c < 127 ? String.fromCharCode(c) : '?')).join(''));
    i += d[i] + 1;
  }
  if (d[i] !== 0 || i + 2 >= d.length) return;
  const name = `${labels.join('.')}.`, type = qtypes[u16(d, i + 1)] || `type ${u16(d, i + 1)}`, response = Boolean(flags & 0x8000);
  out.proto = 'dns';
  out.line = `${prefix}DNS ${response ? `${rcodes[flags & 15] || flags & 15}, ${answers} answer${answers === 1 ? '' : 's'} to` : 'asks'} ${type} ${name}`;
  layer(out, 'DNS', at, d.length, [['ID', u16(d, at)], ['Kind', response ? 'answer' : 'question'], ['Name', name], ['Type', type], ['Answers', answers], ['Code', rcodes[flags & 15] || flags & 15]]);
}

// payload adds the first line of what reads as text, as HTTP does.
function payload(d, at, len, out) {
  if (len <= 0 || at >= d.length) return;
  const head = [];
  for (let i = at; i < Math.min(d.length, at + 100); i++) {
    if (d[i] === 13 || d[i] === 10) break;
    if (d[i] < 32 || d[i] > 126) return;
    head.push(String.fromCharCode(d[i]));
  }
  const line = head.join('');
  if (/^(GET|HEAD|POST|PUT|DELETE|PATCH|OPTIONS|CONNECT) \S|^HTTP\/\d/.test(line)) {
    out.proto = 'http';
    out.line += `: HTTP: ${line}`;
    layer(out, 'HTTP', at, d.length, [['Line', line]]);
  }
}

// dump is the frame in hex, sixteen bytes a line.
export function dump(d, most = 1024) {
  const lines = [];
  for (let i = 0; i < Math.min(d.length, most); i += 16) {
    const row = [...d.subarray(i, i + 16)];
    const left = row.map((b, k) => hex(b) + (k === 7 ? ' ' : '')).join(' ').padEnd(49);
    lines.push(`${hex(i, 4)}  ${left} ${row.map((b) => (b > 31 && b < 127 ? String.fromCharCode(b) : '·')).join('')}`);
  }
  if (d.length > most) lines.push(`… ${d.length - most} more bytes`);
  return lines.join('\n');
}
