// A digit drawn on a screen, prepared as MNIST prepared its own: what fedlab/handwriting.py does,
// number for number. The same arithmetic stands there in the same order, and says why.

const SIDE = 28; // pixels of an image, in each direction
const BOX = 20; // pixels that the longer side of a digit takes, its ink included
const PEN = 2; // width of the round pen, in pixels of the box
const FINE = 8; // ink is decided on FINE x FINE points in each pixel
const GRID = BOX * FINE;

// strokes: a list of strokes, each a list of points [x, y] in any unit, y downwards.
// Returns a Float32Array of 784 numbers from 0 (paper) to 1 (ink), row by row: all zeros where
// there are no points. Throws a RangeError for points that are not finite.
export function prepare(strokes) {
  const image = new Float32Array(SIDE * SIDE);
  const drawn = strokes.filter((stroke) => stroke.length);
  if (!drawn.length) return image;
  const grey = greyOf(inkOf(fitted(drawn)));
  const top = offset(grey, (index) => Math.floor(index / BOX));
  const left = offset(grey, (index) => index % BOX);
  grey.forEach((value, index) => {
    const row = top + Math.floor(index / BOX);
    image[row * SIDE + left + (index % BOX)] = value / 255;
  });
  return image;
}

// The strokes in pixels of the box: in its middle, with room for half a pen at each end.
function fitted(strokes) {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [x, y] of strokes.flat()) {
    if (!Number.isFinite(x) || !Number.isFinite(y)) {
      throw new RangeError(`a stroke has a point (${x}, ${y}); expected finite numbers`);
    }
    [left, right] = [Math.min(left, x), Math.max(right, x)];
    [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
  }
  const [width, height] = [right - left, bottom - top];
  const longest = Math.max(width, height) || 1; // a dot has no extent
  if (longest === Infinity) {
    throw new RangeError("the drawing is wider than a number can be; expected points within 1e308");
  }
  const scaled = (value, low, extent) =>
    BOX / 2 + ((value - low - extent / 2) / longest) * (BOX - PEN);
  return strokes.map((stroke) =>
    stroke.map(([x, y]) => [scaled(x, left, width), scaled(y, top, height)]),
  );
}

// Which points of the fine grid the pen has touched: 1 or 0, row by row.
function inkOf(strokes) {
  const ink = new Uint8Array(GRID * GRID);
  for (const stroke of strokes) {
    const ends = stroke.length > 1 ? stroke.slice(1) : stroke;
    ends.forEach((end, index) => drawLine(ink, stroke[index], end));
  }
  return ink;
}

function drawLine(ink, [ax, ay], [bx, by]) {
  const reach = PEN / 2;
  const [firstRow, lastRow] = between(ay, by, reach);
  const [firstColumn, lastColumn] = between(ax, bx, reach);
  const [dx, dy] = [bx - ax, by - ay];
  const length = dx * dx + dy * dy || 1;
  for (let row = firstRow; row <= lastRow; row++) {
    const y = (row + 0.5) / FINE;
    for (let column = firstColumn; column <= lastColumn; column++) {
      const x = (column + 0.5) / FINE;
      // How far along the line its nearest point is: 0 at a, 1 at b
      let along = ((x - ax) * dx + (y - ay) * dy) / length;
      along = Math.min(Math.max(along, 0), 1);
      const gapX = x - (ax + along * dx);
      const gapY = y - (ay + along * dy);
      if (gapX * gapX + gapY * gapY <= reach * reach) ink[row * GRID + column] = 1;
    }
  }
}

// The first and the last row (or column) of the fine grid near the stretch from a to b.
function between(a, b, reach) {
  const first = Math.floor((Math.min(a, b) - reach) * FINE);
  const last = Math.floor((Math.max(a, b) + reach) * FINE);
  return [Math.max(first, 0), Math.min(last, GRID - 1)];
}

// Grey values 0-255 of the box, row by row: inked points counted, the most of them 255.
function greyOf(ink) {
  const counts = new Array(BOX * BOX).fill(0);
  ink.forEach((inked, index) => {
    const row = Math.floor(index / GRID / FINE);
    counts[row * BOX + Math.floor((index % GRID) / FINE)] += inked;
  });
  const most = Math.max(...counts);
  return counts.map((count) => Math.floor((2 * 255 * count + most) / (2 * most)));
}

// The row (or column) of the image at which the box begins: the centre of mass is in the middle.
function offset(grey, place) {
  let [sum, moment] = [0, 0];
  grey.forEach((value, index) => {
    sum += value;
    moment += value * place(index);
  });
  const barycentre = moment / sum + 0.5;
  return Math.min(Math.max(Math.trunc(15 - barycentre), 0), SIDE - BOX);
}
