// Small drawings of numbers, each with its numbers in words.

import { element, number, percent, svg } from './dom.js';

const [WIDTH, HEIGHT, FOOT] = [360, 120, 18];

// `bins` are { from, to, count } in order; the last one may have no end. All are drawn as wide as each other.
export function histogram(title, bins, words) {
  const total = bins.reduce((sum, { count }) => sum + count, 0);
  if (!total) return null;
  const most = Math.max(...bins.map(({ count }) => count));
  const step = WIDTH / bins.length;
  const bars = bins.map(({ from, to, count }, at) => {
    const height = count ? Math.max(1.5, (HEIGHT * count) / most) : 0;
    const told = `${words(from)} ${to === null ? 'and more' : `to ${words(to)}`}: ${number(count)} (${percent(count, total)})`;
    return svg('rect', {
      x: (at * step + Math.min(1, step / 8)).toFixed(2), width: (step - Math.min(2, step / 4)).toFixed(2),
      y: (HEIGHT - height).toFixed(2), height: height.toFixed(2), rx: Math.min(2, step / 4).toFixed(2), class: 'bar',
    }, svg('title', {}, told));
  });
  const label = (x, text, anchor) => svg('text', { x, y: HEIGHT + FOOT - 3, 'text-anchor': anchor }, text);
  const middle = middleOf(bins, total);
  const end = bins.at(-1).to === null ? `${words(bins.at(-1).from)} and more` : words(bins.at(-1).to);
  const told = `${title}: from ${words(bins[0].from)} to ${end}, half of them below about ${words(middle)}`;
  const drawing = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT + FOOT}`, role: 'img', 'aria-label': told, class: 'histogram' },
    svg('line', { x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT, class: 'axis' }), ...bars,
    label(0, words(bins[0].from), 'start'), label(WIDTH, end, 'end'));
  return element('figure', {},
    element('figcaption', {}, element('h3', {}, title), element('p', { class: 'note' }, `half of them below about ${words(middle)}`)),
    drawing);
}

function middleOf(bins, total) {
  let sum = 0;
  for (const { from, to, count } of bins) {
    if (sum + count >= total / 2) return from + (((to ?? from) - from) * (total / 2 - sum)) / count;
    sum += count;
  }
  return bins.at(-1).from;
}

// `rows` are [name, count, link or null]; a list with bars, the longest first.
export function ranking(title, rows, total, onChoose) {
  if (!rows.length) return null;
  const most = Math.max(...rows.map(([, count]) => count));
  const lines = rows.map(([name, count, value]) => {
    const bar = element('span', { class: 'measure', 'aria-hidden': 'true' });
    bar.style.setProperty('--share', (count / most).toFixed(4));
    const told = value ? element('button', { type: 'button', class: 'text', onclick: () => onChoose(value) }, name) : name;
    return element('tr', {}, element('th', { scope: 'row' }, told, bar),
      element('td', {}, number(count)), element('td', { class: 'note' }, percent(count, total)));
  });
  return element('figure', {}, element('figcaption', {}, element('h3', {}, title)),
    element('table', { class: 'ranking', 'aria-label': title }, element('tbody', {}, lines)));
}

// The stages of a run, each as long as its rows, with the reasons below it.
export function funnel(stages) {
  const most = Math.max(...stages.map(({ rows }) => rows), 1);
  const sum = (reasons) => Object.values(reasons ?? {}).reduce((total, value) => total + value, 0);
  return element('ol', { class: 'funnel' }, stages.map(({ stage, rows, kept, dropped, failed }) => {
    const bar = element('span', { class: 'strip', 'aria-hidden': 'true' }, element('span', { class: 'kept' }), element('span', { class: 'lost' }));
    bar.firstChild.style.setProperty('--share', (kept / most).toFixed(4));
    bar.lastChild.style.setProperty('--share', ((rows - kept) / most).toFixed(4));
    const reasons = [...Object.entries(dropped ?? {}), ...Object.entries(failed ?? {}).map(([name, value]) => [`failed: ${name}`, value])];
    const lost = [[sum(dropped), 'dropped'], [sum(failed), 'failed']].filter(([count]) => count);
    const words = lost.map(([count, what]) => `${number(count)} ${what}`).join(', ') || 'nothing lost';
    return element('li', {},
      element('p', { class: 'stage' }, element('strong', {}, stage), ' ',
        element('span', {}, `${number(kept)} of ${number(rows)} kept`), ' ', element('span', { class: 'note' }, percent(kept, rows))),
      bar,
      reasons.length
        ? element('details', {}, element('summary', {}, words), element('table', { 'aria-label': `What ${stage} lost` }, element('tbody', {},
          reasons.sort(([, a], [, b]) => b - a).map(([name, value]) => element('tr', {},
            element('th', { scope: 'row' }, name.replaceAll('_', ' ')), element('td', {}, number(value)),
            element('td', { class: 'note' }, percent(value, rows)))))))
        : element('p', { class: 'note' }, words));
  }));
}
