// Messages as bytes: safetensors, as docs/protocol.md says. 32-bit floats, and 16-bit ones where a
// message is to be half as long.

const FLOATS = { F32: 4, F16: 2 }; // bytes of a number

// {arrays: {name: {shape, data: Float32Array}}, texts: {name: text}} of an ArrayBuffer. Throws an
// Error for anything else.
export function read(buffer) {
  const length = buffer.byteLength < 8 ? NaN : Number(new DataView(buffer).getBigUint64(0, true));
  if (!(length <= Math.min(buffer.byteLength - 8, 1_000_000))) {
    throw new Error(`the message has ${buffer.byteLength} bytes; expected a safetensors file`);
  }
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const arrays = {}, { __metadata__: texts = {}, ...described } = header, start = 8 + length;
  for (const [name, { dtype, shape, data_offsets: [begin, end] }] of Object.entries(described)) {
    const numbers = shape.reduce((product, side) => product * side, 1);
    if (end - begin !== numbers * FLOATS[dtype] || begin < 0 || start + end > buffer.byteLength) {
      throw new Error(`${name} is ${dtype} [${shape}]; expected F32 or F16, and all of its bytes`);
    }
    // A copy: what is in a message need not begin where a Float32Array may.
    const bytes = buffer.slice(start + begin, start + end);
    const halves = dtype === "F16";
    arrays[name] = { shape, data: halves ? widened(bytes) : new Float32Array(bytes) };
  }
  return { arrays, texts };
}

// The ArrayBuffer of such a message. half: with 16 bits a number.
export function write(arrays, texts, half = false) {
  const header = { __metadata__: texts }, parts = [];
  let length = 0;
  for (const [name, { shape, data }] of Object.entries(arrays)) {
    const part = half ? narrowed(data) : data;
    header[name] = {
      dtype: half ? "F16" : "F32", shape, data_offsets: [length, length + part.byteLength],
    };
    length += part.byteLength;
    parts.push(part);
  }
  let text = JSON.stringify(header);
  let bytes = new TextEncoder().encode(text);
  const missing = -bytes.length & 7; // so that the numbers begin at a multiple of eight
  if (missing) bytes = new TextEncoder().encode((text += " ".repeat(missing)));
  const all = new Uint8Array(8 + bytes.length + length);
  new DataView(all.buffer).setBigUint64(0, BigInt(bytes.length), true);
  all.set(bytes, 8);
  let at = 8 + bytes.length;
  for (const part of parts) {
    all.set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), at);
    at += part.byteLength;
  }
  return all.buffer;
}

// ---- 16 bits: a sign, five bits of exponent, ten of fraction -----------------------------------

function widened(bytes) {
  return Float32Array.from(new Uint16Array(bytes), half => {
    const sign = half & 0x8000 ? -1 : 1, exponent = (half >> 10) & 31, fraction = half & 1023;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  });
}

// To the nearest, and halfway to the even one, as NumPy rounds.
function narrowed(floats) {
  const halves = new Uint16Array(floats.length), copy = floats.slice();
  const bits = new Uint32Array(copy.buffer);
  for (let i = 0; i < bits.length; i++) {
    const sign = (bits[i] >>> 16) & 0x8000, fraction = bits[i] & 0x7fffff;
    const exponent = ((bits[i] >>> 23) & 255) - 112;
    if (exponent === 143) halves[i] = sign | (fraction ? 0x7e00 : 0x7c00); // infinity, NaN
    else if (exponent > 30) halves[i] = sign | 0x7c00;
    else if (exponent > 0) halves[i] = sign | rounded((exponent << 23) | fraction, 13);
    else if (exponent < -10) halves[i] = sign;
    else halves[i] = sign | rounded(0x800000 | fraction, 14 - exponent);
  }
  return halves;
}

function rounded(number, bits) {
  const whole = number >>> bits, rest = number & ((1 << bits) - 1), middle = 1 << (bits - 1);
  return whole + (rest > middle || (rest === middle && whole & 1) ? 1 : 0);
}
