// Compares two texts line by line.

const MOST = 4_000_000; // cells of the table; above it, what differs is shown as one block

/** The differences: [{kind: "same" | "added" | "removed", text, before, after}] with line numbers from 1. */
export function compareLines(before, after) {
  const [old, now] = [before.split("\n"), after.split("\n")];
  let [start, end] = [0, 0];
  while (start < old.length && start < now.length && old[start] === now[start]) start += 1;
  while (end < old.length - start && end < now.length - start && old.at(-1 - end) === now.at(-1 - end)) end += 1;
  const found = [];
  const same = (at, to) => found.push({ kind: "same", text: old[at], before: at + 1, after: to + 1 });
  const removed = (at) => found.push({ kind: "removed", text: old[at], before: at + 1 });
  const added = (at) => found.push({ kind: "added", text: now[at], after: at + 1 });
  for (let at = 0; at < start; at += 1) same(at, at);
  const [height, width] = [old.length - end - start, now.length - end - start];
  let [row, column] = [0, 0];
  if (height * width <= MOST) {
    const longest = Array.from({ length: height + 1 }, () => new Uint32Array(width + 1));
    for (let y = height - 1; y >= 0; y -= 1) {
      for (let x = width - 1; x >= 0; x -= 1) {
        longest[y][x] = old[start + y] === now[start + x] ? longest[y + 1][x + 1] + 1 : Math.max(longest[y + 1][x], longest[y][x + 1]);
      }
    }
    while (row < height && column < width) {
      if (old[start + row] === now[start + column]) same(start + row++, start + column++);
      else if (longest[row + 1][column] >= longest[row][column + 1]) removed(start + row++);
      else added(start + column++);
    }
  }
  while (row < height) removed(start + row++);
  while (column < width) added(start + column++);
  for (let at = 0; at < end; at += 1) same(old.length - end + at, now.length - end + at);
  return found;
}

/** The differences with a few lines around each; `null` stands for lines that are left out. */
export function aroundChanges(differences, context = 3) {
  const near = new Array(differences.length).fill(false);
  differences.forEach(({ kind }, at) => {
    if (kind !== "same") near.fill(true, Math.max(0, at - context), Math.min(near.length, at + context + 1));
  });
  return differences.flatMap((one, at) => (near[at] ? [one] : at === 0 || near[at - 1] ? [null] : []));
}
