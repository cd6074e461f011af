// pcapng as it arrives (draft-ietf-opsawg-pcapng): whole blocks are taken off a
// stream, little endian, which is what the daemon writes.

const SECTION = 0x0a0d0d0a, INTERFACE = 1, STATISTICS = 5, PACKET = 6;
const mostBlock = 1 << 20;

export class Reader {
  constructor() {
    this.rest = new Uint8Array(0);
    this.interfaces = []; // {name, resolution}
    this.lost = []; // frames, by interface, as last told
  }

  // dropped is how many frames the capture has lost so far.
  get dropped() { return this.lost.reduce((a, b) => a + (b || 0), 0); }

  // push takes bytes and returns what became whole: {blocks: bytes, packets}.
  // A packet is {time (ms), iface, dir, data, size, comments}.
  push(chunk) {
    let buf = chunk;
    if (this.rest.length) {
      buf = new Uint8Array(this.rest.length + chunk.length);
      buf.set(this.rest);
      buf.set(chunk, this.rest.length);
    }
    const view = new DataView(buf.buffer, buf.byteOffset, buf.byteLength);
    const packets = [];
    let at = 0;
    while (buf.length - at >= 12) {
      const type = view.getUint32(at, true), size = view.getUint32(at + 4, true);
      if (size < 12 || size % 4 || size > mostBlock) throw new Error('the stream is not pcapng');
      if (buf.length - at < size) break;
      this.block(type, new DataView(buf.buffer, buf.byteOffset + at + 8, size - 12), packets);
      at += size;
    }
    this.rest = buf.slice(at);
    return { blocks: buf.slice(0, at), packets };
  }

  block(type, v, packets) {
    if (type === SECTION) {
      if (v.getUint32(0, true) !== 0x1a2b3c4d) throw new Error('the stream is not pcapng in little endian');
      this.interfaces = [];
      this.lost = [];
    } else if (type === INTERFACE) {
      const i = { name: '', resolution: 6 };
      for (const [code, val] of options(v, 8)) {
        if (code === 2) i.name = utf8(val);
        if (code === 9) i.resolution = val[0];
      }
      this.interfaces.push(i);
    } else if (type === PACKET) {
      const iface = this.interfaces[v.getUint32(0, true)] || { name: '?', resolution: 6 };
      const units = v.getUint32(4, true) * 4294967296 + v.getUint32(8, true);
      const length = v.getUint32(12, true), size = v.getUint32(16, true);
      const data = new Uint8Array(v.buffer, v.byteOffset + 20, length);
      const p = { time: units / 10 ** (iface.resolution - 3), iface: iface.name, dir: '', data, size, comments: [] };
      for (const [code, val] of options(v, 20 + ((length + 3) & ~3))) {
        if (code === 1) p.comments.push(utf8(val));
        if (code === 2 && val.length >= 4) p.dir = ['', 'from', 'to'][val[0] & 3] || '';
      }
      packets.push(p);
    } else if (type === STATISTICS) {
      for (const [code, val] of options(v, 12)) {
        if (code === 5 && val.length === 8) this.lost[v.getUint32(0, true)] = Number(new DataView(val.buffer, val.byteOffset, 8).getBigUint64(0, true));
      }
    }
  }
}

function* options(v, at) {
  while (at + 4 <= v.byteLength) {
    const code = v.getUint16(at, true), n = v.getUint16(at + 2, true);
    at += 4;
    if (code === 0 || at + n > v.byteLength) return;
    yield [code, new Uint8Array(v.buffer, v.byteOffset + at, n)];
    at += (n + 3) & ~3;
  }
}

const utf8 = (b) => new TextDecoder().decode(b);
