// The answer of the server, see pipeline/eval/demo/answer.py: a head, the picture as a JPEG, and 16-bit values.

const ROUNDS = 65535;

/** Split an ArrayBuffer into `{ head, picture: Blob, map }`; `map` is a DepthMap. */
export function readAnswer(buffer) {
  const headBytes = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, headBytes)));
  const start = 4 + headBytes + head.picture_bytes;
  const picture = new Blob([new Uint8Array(buffer, 4 + headBytes, head.picture_bytes)], { type: "image/jpeg" });
  const view = new DataView(buffer, start);
  if (view.byteLength !== 2 * head.width * head.height) {
    throw new Error("the answer is not whole");
  }
  const inverseDepth = new Float32Array(head.width * head.height);
  const step = (head.greatest - head.least) / ROUNDS;
  for (let i = 0; i < inverseDepth.length; i++) {
    inverseDepth[i] = head.least + step * view.getUint16(2 * i, true);
  }
  return { head, picture, map: new DepthMap(head, inverseDepth) };
}

/** Inverse depth of a picture, row by row; larger = nearer. */
class DepthMap {
  constructor(head, inverseDepth) {
    this.width = head.width;
    this.height = head.height;
    this.p2 = head.p2;
    this.p98 = head.p98;
    this.inverseDepth = inverseDepth;
  }

  at({ x, y }) {
    return this.inverseDepth[y * this.width + x];
  }

  /** A value between far (0) and near (1) as the colours show it; 0.5 where the map is flat. */
  place(value) {
    const range = this.p98 - this.p2;
    return range > 0 ? Math.min(1, Math.max(0, (value - this.p2) / range)) : 0.5;
  }

  /** The colours as ImageData, from 256 triples, far to near. */
  colours(palette) {
    const image = new ImageData(this.width, this.height);
    for (let i = 0; i < this.inverseDepth.length; i++) {
      const [red, green, blue] = palette[Math.round(255 * this.place(this.inverseDepth[i]))];
      image.data.set([red, green, blue, 255], 4 * i);
    }
    return image;
  }
}
