// A subscriber for Node.js without any package, written from docs/topics.md alone. Prints one JSON object per message.
//
//   node examples/subscriber.mjs ipc:///tmp/octobev road_layout/ camera/front/      # prefixes; none: everything
//   node examples/subscriber.mjs tcp://127.0.0.1:5555 --count 10                    # ends after ten messages
//
// In four parts: ZMTP 3.1 over a socket, msgpack, a message of Octobev with its checks, and what is printed.

import net from 'node:net';

class Disconnected extends Error {}
class Malformed extends Error {}

function require(holds, otherwise, Kind = Malformed) {
  if (!holds) throw new Kind(otherwise);
}

// ---- ZMTP 3.1, mechanism NULL, as a SUB socket -----------------------------------------------------------------

const MAX_PART_BYTES = 64 * 2 ** 20;
const MAX_PARTS = 18;
const SILENCE_MS = 4000; // the publisher asks every second whether we are there

// Gives exactly as many bytes as are asked for, however the stream cuts them.
class Stream {
  #chunks;
  #rest = Buffer.alloc(0);

  constructor(socket) {
    this.#chunks = socket[Symbol.asyncIterator]();
  }

  async read(count) {
    const pieces = [this.#rest];
    let held = this.#rest.length;
    while (held < count) {
      const { value, done } = await this.#chunks.next();
      require(!done, 'the publisher has gone', Disconnected);
      pieces.push(value);
      held += value.length;
    }
    const bytes = pieces.length === 1 ? this.#rest : Buffer.concat(pieces);
    this.#rest = bytes.subarray(count);
    return bytes.subarray(0, count);
  }
}

function command(name, data = Buffer.alloc(0)) {
  const body = Buffer.concat([Buffer.from([name.length]), Buffer.from(name), data]);
  const size = Buffer.alloc(body.length < 256 ? 1 : 8);
  size.writeUIntBE(body.length, Math.max(0, size.length - 6), Math.min(size.length, 6));
  return Buffer.concat([Buffer.from([body.length < 256 ? 4 : 6]), size, body]);
}

async function frame(stream) {
  const flags = (await stream.read(1))[0]; // 1: more follow, 2: size of 8 bytes, 4: command
  require(flags <= 6 && (flags & 5) !== 5, 'a frame with unknown flags', Disconnected);
  const size = flags & 2 ? Number((await stream.read(8)).readBigUInt64BE()) : (await stream.read(1))[0];
  require(size <= MAX_PART_BYTES, 'a part of too many bytes', Disconnected);
  return { isCommand: (flags & 4) !== 0, more: (flags & 1) !== 0, body: await stream.read(size) };
}

function greeting() {
  const bytes = Buffer.alloc(64);
  bytes.set([0xff], 0);
  bytes.set([0x7f, 3, 1], 9);
  bytes.write('NULL', 12);
  return bytes;
}

async function subscribe(socket, stream, prefixes) {
  socket.write(greeting());
  const theirs = await stream.read(64);
  require(theirs[0] === 0xff && theirs[9] === 0x7f, 'not ZMTP', Disconnected);
  require(theirs[10] === 3 && theirs[11] >= 1, 'the peer speaks an older ZMTP than 3.1', Disconnected);
  require(theirs.subarray(12, 32).equals(greeting().subarray(12, 32)), 'the peer demands keys', Disconnected);
  socket.write(command('READY', Buffer.from('\x0bSocket-Type\0\0\0\x03SUB', 'latin1')));
  const ready = await frame(stream);
  const refused = !ready.isCommand || ready.body.toString('latin1', 0, 6) !== '\x05READY';
  require(!refused, 'the peer refused', Disconnected);
  for (const prefix of prefixes) socket.write(command('SUBSCRIBE', Buffer.from(prefix)));
}

// All parts of one message after the other.
async function* messages(socket, stream) {
  for (let parts = []; ; ) {
    const { isCommand, more, body } = await frame(stream);
    if (isCommand) {
      // after the name: two bytes of time to live, then the context to send back
      if (body.toString('latin1', 0, 5) === '\x04PING') socket.write(command('PONG', body.subarray(7)));
      continue;
    }
    require(parts.length < MAX_PARTS, 'a message of too many parts', Disconnected);
    parts.push(body);
    if (!more) {
      yield parts;
      parts = [];
    }
  }
}

function addressOf(endpoint) {
  const [, path, host, port] = /^(?:ipc:\/\/(\/.+)|tcp:\/\/\[?([^[\]]+?)\]?:(\d+))$/.exec(endpoint) ?? [];
  if (path) return { path };
  if (!host) throw new TypeError('an endpoint is ipc://PATH or tcp://HOST:PORT');
  return { host, port: Number(port) };
}

// ---- msgpack: integers become numbers where those are exact, else BigInt ---------------------------------------

class Unpacker {
  #bytes;
  #at = 0;

  constructor(bytes) {
    this.#bytes = bytes;
  }

  all() {
    const value = this.#next(0);
    require(this.#at === this.#bytes.length, "bytes after the header's map");
    return value;
  }

  #next(depth) {
    require(depth < 32, 'a header that is nested too deep');
    const tag = this.#take(1)[0];
    if (tag < 0x80) return tag;
    if (tag < 0x90) return this.#map(tag & 0x0f, depth);
    if (tag < 0xa0) return this.#list(tag & 0x0f, depth);
    if (tag < 0xc0) return this.#text(tag & 0x1f);
    if (tag >= 0xe0) return tag - 256;
    const width = (first) => 1 << (tag - first);
    if (tag === 0xc0) return null;
    if (tag === 0xc2 || tag === 0xc3) return tag === 0xc3;
    if (tag >= 0xc4 && tag <= 0xc6) return this.#take(this.#unsigned(width(0xc4)));
    if (tag >= 0xc7 && tag <= 0xc9) return this.#take(this.#unsigned(width(0xc7)) + 1);
    if (tag === 0xca) return this.#take(4).readFloatBE();
    if (tag === 0xcb) return this.#take(8).readDoubleBE();
    if (tag >= 0xcc && tag <= 0xcf) return this.#unsigned(width(0xcc));
    if (tag >= 0xd0 && tag <= 0xd2) return this.#take(width(0xd0)).readIntBE(0, width(0xd0));
    if (tag === 0xd3) return exact(this.#take(8).readBigInt64BE());
    if (tag >= 0xd4 && tag <= 0xd8) return this.#take(1 + width(0xd4));
    if (tag >= 0xd9 && tag <= 0xdb) return this.#text(this.#unsigned(width(0xd9)));
    if (tag === 0xdc || tag === 0xdd) return this.#list(this.#unsigned(2 * width(0xdc)), depth);
    if (tag === 0xde || tag === 0xdf) return this.#map(this.#unsigned(2 * width(0xde)), depth);
    throw new Malformed('a header that is not msgpack');
  }

  #take(count) {
    require(count <= this.#bytes.length - this.#at, 'a header that ends too early');
    this.#at += count;
    return this.#bytes.subarray(this.#at - count, this.#at);
  }

  #unsigned(width) {
    return width === 8 ? exact(this.#take(8).readBigUInt64BE()) : this.#take(width).readUIntBE(0, width);
  }

  #text(size) {
    return this.#take(size).toString();
  }

  #list(count, depth) {
    const items = [];
    for (let i = 0; i < count; i++) items.push(this.#next(depth + 1));
    return items;
  }

  #map(count, depth) {
    const fields = Object.create(null);
    for (let i = 0; i < count; i++) {
      const key = this.#next(depth + 1);
      require(typeof key === 'string', 'a key that is no text');
      fields[key] = this.#next(depth + 1);
    }
    return fields;
  }
}

function exact(integer) {
  return Number.isSafeInteger(Number(integer)) ? Number(integer) : integer;
}

// ---- a message of Octobev --------------------------------------------------------------------------------------

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, crc) => {
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

function crc32(bytes, crc = 0) {
  crc = ~crc;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

// dtype -> bytes of an element, and how to read the one at an offset of a DataView; all little-endian
const DTYPES = {
  bool: [1, (view, at) => view.getUint8(at)],
  uint8: [1, (view, at) => view.getUint8(at)],
  int8: [1, (view, at) => view.getInt8(at)],
  uint16: [2, (view, at) => view.getUint16(at, true)],
  int16: [2, (view, at) => view.getInt16(at, true)],
  uint32: [4, (view, at) => view.getUint32(at, true)],
  int32: [4, (view, at) => view.getInt32(at, true)],
  uint64: [8, (view, at) => view.getBigUint64(at, true)],
  int64: [8, (view, at) => view.getBigInt64(at, true)],
  float16: [2, (view, at) => half(view.getUint16(at, true))],
  float32: [4, (view, at) => view.getFloat32(at, true)],
  float64: [8, (view, at) => view.getFloat64(at, true)],
};

function half(bits) {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  const size =
    exponent === 0 ? fraction * 2 ** -24 : exponent === 31 ? (fraction ? NaN : Infinity) : (1024 + fraction) * 2 ** (exponent - 25);
  return bits & 0x8000 ? -size : size;
}

function arrayOf({ name, dtype, shape }, data) {
  require(typeof name === 'string' && Object.hasOwn(DTYPES, dtype), 'an array of no dtype that there is');
  require(Array.isArray(shape) && shape.length <= 8, 'an array of too many axes');
  require(shape.every((side) => Number.isSafeInteger(side) && side >= 0), 'an array with a side that is no size');
  const elements = shape.reduce((product, side) => product * side, 1); // too large: not safe, and equal to nothing
  require(elements * DTYPES[dtype][0] === data.length, 'an array whose size is not that of its shape');
  require(dtype !== 'bool' || data.every((byte) => byte <= 1), 'a bool of neither 0 nor 1');
  return { name, dtype, shape, data };
}

function decode([topic, packed, ...parts]) {
  require(packed !== undefined, 'a message of one part');
  require(topic.length >= 2 && topic.length <= 256 && topic.at(-1) === 0x2f, 'a topic without a slash');
  require(packed.length > 5 && packed.length <= 65536, 'a header of a size that none has');
  const crc = parts.reduce((sum, part) => crc32(part, sum), crc32(packed.subarray(0, -4), crc32(topic)));
  require(packed.at(-5) === 0xce && packed.readUInt32BE(packed.length - 4) === crc, 'a wrong checksum');

  const header = new Unpacker(packed).all();
  require(header?.schema === 1, 'another version');
  const { kind, session, sequence, timestamp_ns, valid, reason, arrays } = header;
  require([header.topic, kind, session].every((text) => typeof text === 'string'), 'a text of another type');
  require(`${header.topic}/` === topic.toString(), 'two topics');
  require([sequence, timestamp_ns].every((n) => Number.isInteger(n) || typeof n === 'bigint'), 'an int of another type');
  require(valid === true ? reason === null : valid === false && typeof reason === 'string', 'valid and reason differ');
  require(Array.isArray(arrays) && arrays.length === parts.length, 'arrays and parts differ');
  require(valid || arrays.length === 0, 'arrays of what is not valid');
  require(new Set(arrays.map((entry) => entry?.name)).size === arrays.length, 'two arrays of one name');
  return { header, arrays: arrays.map((entry, i) => arrayOf(entry ?? {}, parts[i])) };
}

function arrayNamed({ arrays }, name, dtype, shape) {
  const found = arrays.find((array) => array.name === name);
  const fits = found?.dtype === dtype && found.shape.join() === shape.join();
  require(fits, `no array ${name} of the type and shape of its kind`);
  return found.data;
}

// ---- what is printed -------------------------------------------------------------------------------------------

function mean({ dtype, data }) {
  const [size, element] = DTYPES[dtype];
  const view = new DataView(data.buffer, data.byteOffset, data.length); // takes any address
  let sum = 0;
  for (let at = 0; at < data.length; at += size) sum += Number(element(view, at));
  return data.length ? (sum / data.length) * size : null;
}

// How far the road goes on ahead of the car along y = 0, through cells that are observed and drivable, metres.
function roadAheadM(message) {
  const { grid, classes } = message.header;
  require(Array.isArray(classes), 'a road layout without classes');
  const { x_min_m, x_max_m, y_min_m, y_max_m, resolution_m } = grid ?? {};
  const sides = [x_min_m, x_max_m, y_min_m, y_max_m, resolution_m];
  require(sides.every(Number.isFinite) && resolution_m > 0, 'a road layout without a grid');
  const nx = Math.round((x_max_m - x_min_m) / resolution_m);
  const ny = Math.round((y_max_m - y_min_m) / resolution_m);
  const probability = arrayNamed(message, 'probability', 'uint8', [classes.length, nx, ny]);
  const observed = arrayNamed(message, 'observed', 'bool', [nx, ny]);
  const drivable = classes.indexOf('drivable');
  const j = Math.floor((0 - y_min_m) / resolution_m);
  const first = Math.floor((0 - x_min_m) / resolution_m);
  if (drivable < 0 || j < 0 || j >= ny || first < 0) return 0;
  let i = first;
  while (i < nx && observed[i * ny + j] && probability[(drivable * nx + i) * ny + j] >= 128) i++;
  return (i - first) * resolution_m;
}

const seen = new Map();

// How many messages of its topic did not arrive before this one; null when it came before.
function lostBefore({ topic, session, sequence }) {
  const before = seen.get(topic);
  seen.set(topic, { session, sequence });
  if (before?.session !== session) return 0;
  return sequence === before.sequence ? null : Math.max(0, Number(sequence) - Number(before.sequence) - 1);
}

function line(message, lost) {
  const { topic, kind, sequence, timestamp_ns, reason } = message.header;
  const arrays = message.arrays.map((array) => ({
    name: array.name,
    dtype: array.dtype,
    shape: array.shape,
    crc32: crc32(array.data).toString(16).padStart(8, '0'),
    mean: mean(array),
  }));
  const told = { topic, kind, sequence: Number(sequence), lost, timestamp_ns: String(timestamp_ns), reason, arrays };
  if (kind === 'road_layout' && reason === null) told.road_ahead_m = roadAheadM(message);
  return JSON.stringify(told);
}

let left = Infinity; // messages to print

async function listen(endpoint, prefixes) {
  const socket = net.connect(addressOf(endpoint));
  socket.setTimeout(SILENCE_MS, () => socket.destroy(new Disconnected('the publisher is silent')));
  try {
    const stream = new Stream(socket);
    await subscribe(socket, stream, prefixes);
    for await (const parts of messages(socket, stream)) {
      try {
        const message = decode(parts);
        const lost = lostBefore(message.header);
        if (lost === null) continue;
        console.log(line(message, lost));
        left--;
      } catch (error) {
        if (!(error instanceof Malformed)) throw error;
        console.error(`a message is skipped: ${error.message}`);
      }
      if (left === 0) return;
    }
  } finally {
    socket.destroy();
  }
}

const [endpoint, ...rest] = process.argv.slice(2);
if (!endpoint) {
  console.error('usage: node subscriber.mjs ENDPOINT [PREFIX ...] [--count N]');
  process.exit(2);
}
const at = rest.indexOf('--count');
if (at >= 0) left = Number(rest.splice(at, 2)[1]);
for (let told = ''; left > 0; ) {
  try {
    await listen(endpoint, rest.length ? rest : ['']);
  } catch (error) {
    if (!(error instanceof Disconnected) && !error.code) throw error; // a publisher may come later, and again
    if (told !== error.message) console.error(`${endpoint}: ${(told = error.message)}`);
    await new Promise((done) => setTimeout(done, 100));
  }
}
