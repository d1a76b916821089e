// What the address bar says is what is shown: its parameters are those of the API, and a few of the page's own.

import { licenceName, number } from './dom.js';

const similarity = (value) => Number(value).toFixed(2);
const list = (names) => (value) => value.split(',').map((part) => names?.[part] ?? part).join(', ');

export const NSFW = { UNLIKELY: 'safe', UNSURE: 'unsure', NSFW: 'not safe', UNTAGGED: 'not tagged' };

// The filters in the order in which they are told, and what a chip says of each.
export const FILTERS = {
  safe: { chip: (value) => value === 'false' && 'also what is not safe' },
  nsfw: { chip: (value) => `tagged ${list(NSFW)(value)}` },
  modality: { chip: (value) => value === 'text' && 'by captions' },
  similarity_min: { chip: (value) => `similarity from ${similarity(value)}` },
  similarity_max: { chip: (value) => `similarity to ${similarity(value)}` },
  width_min: { chip: (value) => `at least ${number(Number(value))} wide` },
  height_min: { chip: (value) => `at least ${number(Number(value))} high` },
  language: { chip: (value) => `language ${list()(value)}` },
  license: { chip: (value) => (value === 'any' ? 'licence known' : `licence ${value.split(',').map(licenceCode).join(', ')}`) },
  host: { chip: (value) => `from ${list()(value)}` },
  fold: { chip: (value) => value === 'true' && 'near-duplicates folded' },
  exact: { chip: (value) => value === 'true' && 'every row looked at' },
  similarity_weight: { chip: (value) => `similarity weighs ${value}` },
  aesthetic_weight: { chip: (value) => `aesthetics weigh ${value}` },
};
// What pictures taken at random cannot be asked for.
const OF_SEARCHES = ['modality', 'fold', 'exact', 'similarity_weight', 'aesthetic_weight'];

export function licenceCode(code) {
  if (/^https?:/i.test(code)) return licenceName(code);
  return { zero: 'CC0', mark: 'public domain', any: 'any known' }[code] ?? `CC ${code.toUpperCase()}`;
}

// A state of the page out of an address: { view, text, key, show, seed, filters }.
export function read(address = location.search) {
  const at = new URLSearchParams(address);
  const filters = {};
  for (const name of Object.keys(FILTERS)) {
    if (at.get(name)) filters[name] = at.get(name);
  }
  return {
    view: ['dataset', 'report'].includes(at.get('view')) ? 'dataset' : 'search',
    text: (at.get('text') ?? '').trim(),
    key: at.get('key') ?? '',
    show: at.get('show') ?? '',
    seed: at.get('seed') ?? '',
    filters,
  };
}

// The address of a state.
export function address({ view, text, key, show, seed, filters }) {
  const at = new URLSearchParams();
  if (view === 'dataset') at.set('view', 'dataset');
  if (text) at.set('text', text);
  if (key) at.set('key', key);
  Object.entries(filters).forEach(([name, value]) => at.set(name, value));
  if (seed) at.set('seed', seed);
  if (show) at.set('show', show);
  const query = at.toString();
  return query ? `/?${query}` : '/';
}

export const isLookedFor = ({ text, key, picture }) => Boolean(text || key || picture);

// The options of a search, or of pictures taken at random.
export function parameters(state, more) {
  const at = new URLSearchParams(more);
  for (const [name, value] of Object.entries(state.filters)) {
    if (isLookedFor(state) || !OF_SEARCHES.includes(name)) at.set(name, value);
  }
  return at;
}

// The filters in use, as [name, words].
export function inUse(state) {
  const told = Object.entries(state.filters).map(([name, value]) => [name, FILTERS[name].chip(value)]);
  return told.filter(([name, words]) => words && (isLookedFor(state) || !OF_SEARCHES.includes(name)));
}
