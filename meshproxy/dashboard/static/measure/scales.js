/** Axes: round numbers to write beside them, and lines through points; pure. */

/** Round numbers from 0 to at least `most`, about `count` of them: 0, 20, 40. */
export function ticks(most, count = 3) {
  if (!(most > 0)) return [0, 1];
  const rough = most / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= rough * 0.999);
  const found = [0];
  while (found[found.length - 1] < most * 0.999) found.push(Number((step * found.length).toPrecision(12)));
  return found;
}

const STEPS = [60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400];

/** Round times between two times (Unix seconds), at most `count`, in the zone that is `offset` seconds before UTC. */
export function timeTicks(from, to, count, offset = 0) {
  const step = STEPS.find((each) => (to - from) / each <= count) ?? STEPS[STEPS.length - 1];
  const first = Math.ceil((from - offset) / step) * step + offset;
  const found = [];
  for (let at = first; at <= to; at += step) found.push(at);
  return found;
}

/** The stretches of `values` without nulls: [[index, value], ...] each. */
export function stretches(values) {
  const found = [];
  let open = null;
  values.forEach((value, index) => {
    if (value === null) open = null;
    else if (open) open.push([index, value]);
    else found.push((open = [[index, value]]));
  });
  return found;
}
