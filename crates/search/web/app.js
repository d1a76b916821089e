// The page. It uses nothing but the public API; what the address bar says is what is shown.

import { identity, imageOf, info, random, search, statistics } from './api.js';
import * as basket from './basket.js';
import { Dataset, seed } from './dataset.js';
import { Detail } from './detail.js';
import { byId, element, several } from './dom.js';
import * as filters from './filters.js';
import { Grid } from './grid.js';
import * as picture from './picture.js';
import { address, inUse, isLookedFor, parameters, read } from './query.js';

const PAGE = 60;
const LOOKED_AT_MAX = 9800; // the service pages no further
const AROUND = 24;
const EXAMPLES = 3;

const SEEN_MAX = 20;

const seen = new Map(); // results of earlier searches, for those who go back
const brought = new Map(); // pictures of the user's, by the number that the history has of them
const results = byId('results');
const more = byId('more');
let state = now();
let shown = null; // the search that is shown
let request = null;

const actions = {
  has: basket.has,
  toggle(found) {
    toast(basket.toggle(found) ? 'Added to the basket.' : 'Removed from the basket.');
  },
  like: (found) => look({ key: found.key }),
  host: (name) => look({ filters: { ...state.filters, host: name } }),
  filter: (name, value) => look({ filters: { [name]: value } }),
  open(found, list) {
    state = { ...state, show: found.key };
    if (detail.isOpen) history.replaceState(history.state, '', address(state));
    else history.pushState({ ...history.state, opened: true }, '', address(state));
    openDetail(found, list);
  },
  move(steps) {
    const at = grid.found.findIndex(({ key }) => key === detail.found.key) + steps;
    if (at < 0 || at >= grid.found.length) return;
    actions.open(grid.found[at], grid);
    if (at + 5 > grid.found.length && !more.hidden) find(grid.found.length);
  },
};
// Further results come before their end is in sight.
const end = new IntersectionObserver((told) => {
  if (told.at(-1).isIntersecting && !more.hidden && !request) find(grid.found.length);
}, { rootMargin: '0px 0px 600px' });
const grid = new Grid(results, actions);
const around = new Grid(byId('around'), actions);
const dataset = new Dataset(actions);
const detail = new Detail(actions, () => state.filters);

function now() {
  return { ...read(), picture: brought.get(history.state?.picture) ?? null };
}

// Leads to another state; what is not named becomes nothing, but filters stay.
function look(next) {
  const to = { view: 'search', text: '', key: '', show: '', seed: '', picture: null, filters: state.filters, ...next };
  let id;
  if (to.picture) {
    id = [...brought].find(([, known]) => known === to.picture)?.[0] ?? brought.size + 1;
    brought.set(id, to.picture);
  }
  const before = state;
  const isSame = address(to) === location.pathname + location.search && to.picture === before.picture;
  history[isSame ? 'replaceState' : 'pushState'](id ? { picture: id } : null, '', address(to));
  show();
  scrollTo({ top: 0 });
  if (document.activeElement === document.body || isLookedFor(before) !== isLookedFor(to)) focusResults();
}

function focusResults() {
  if (document.activeElement !== byId('text')) results.focus({ preventScroll: true });
}

function toast(text) {
  clearTimeout(toast.timer);
  byId('said').textContent = text;
  toast.timer = setTimeout(() => { byId('said').textContent = ''; }, 3000);
}

// What a state looks for, in words.
function words({ text, key, picture: file }) {
  const like = key ? 'like the picture you chose' : file ? 'like your picture' : '';
  return [like, text && `for “${text}”`].filter(Boolean).join(', ');
}

async function find(offset, byKeyboard = false) {
  request?.abort();
  const mine = (request = new AbortController());
  const wanted = state;
  more.hidden = true;
  results.setAttribute('aria-busy', 'true');
  byId('nothing').hidden = byId('wrong').hidden = true;
  if (offset === 0) {
    byId('all').hidden = true;
    byId('status').textContent = 'Searching …';
  }
  try {
    const options = parameters(wanted, { count: PAGE, offset });
    const answer = await search(wanted, options, mine.signal);
    if (offset === 0) grid.clear();
    const first = grid.append(answer.results);
    const whole = answer.results.length < PAGE || grid.found.length >= LOOKED_AT_MAX;
    tell(wanted, whole, answer.took_ms);
    if (byKeyboard) (first ?? results.lastElementChild)?.querySelector('.open').focus();
  } catch (error) {
    if (error.name === 'AbortError') return;
    if (offset === 0) grid.clear();
    byId('status').textContent = '';
    byId('wrong-cause').textContent = error.message;
    byId('wrong').hidden = false;
  } finally {
    done(mine);
  }
}

// Says what was found, once it is there.
function tell(wanted, whole, took) {
  const count = grid.found.length;
  more.hidden = whole;
  byId('status').textContent = count ? `${whole ? '' : 'The best '}${several(count, 'picture')} ${words(wanted)}, in ${took} ms` : '';
  byId('all').hidden = count === 0;
  if (count === 0) nothing(wanted);
  results.dataset.took = took;
}

function done(mine) {
  if (request !== mine) return;
  request = null;
  results.removeAttribute('aria-busy');
  end.unobserve(byId('end')); // so that it is told again, if it is still in sight
  end.observe(byId('end'));
}

function nothing(wanted) {
  const used = inUse(wanted);
  byId('nothing-words').textContent = `Nothing found ${words(wanted)}.`;
  byId('nothing-filters').hidden = used.length === 0;
  byId('nothing-hint').hidden = used.length > 0;
  byId('nothing').hidden = false;
}

// Pictures taken at random, for those who do not know yet what to look for.
async function lookAround() {
  request?.abort();
  const mine = (request = new AbortController());
  rest();
  try {
    const { results: found } = await random(parameters(state, { count: AROUND, seed: state.seed || seed() }), mine.signal);
    around.clear();
    around.append(found);
    const used = inUse(state);
    byId('around-said').textContent = found.length ? '' : used.length ? 'No picture passes these filters.' : 'There are no pictures that are tagged safe.';
    examples(found);
  } catch (error) {
    if (error.name === 'AbortError') return;
    byId('around-said').textContent = `No pictures to look at: ${error.message}`;
  } finally {
    done(mine);
  }
}

// Nothing is looked for.
function rest() {
  grid.clear();
  more.hidden = byId('all').hidden = byId('nothing').hidden = byId('wrong').hidden = true;
  byId('status').textContent = '';
}

// Words of the dataset itself are the best examples of what can be found in it.
function examples(found) {
  const captions = [...new Set(found.map(({ caption }) => caption.trim()))];
  const plain = captions.filter((caption) => caption.length > 8 && caption.length <= 60 && !/ [+-] /.test(caption));
  const chosen = plain.sort((a, b) => a.length - b.length).slice(0, EXAMPLES);
  byId('examples').hidden = chosen.length === 0;
  byId('examples').replaceChildren('Try ', ...chosen.map((caption) =>
    element('button', { type: 'button', class: 'chip', onclick: () => look({ text: caption }) }, caption)));
}

// The picture that is looked for, beside the words.
function subject() {
  const box = byId('subject');
  const file = state.picture;
  box.hidden = !state.key && !file;
  const [image, canvas] = [byId('subject-image'), byId('subject-canvas')];
  image.hidden = !state.key;
  canvas.hidden = !file;
  if (state.key) image.src = imageOf(state.key);
  if (file) picture.draw(canvas, file).then((drawn) => canvas.classList.toggle('missing', !drawn));
  byId('subject-remove').setAttribute('aria-label', file ? 'Remove your picture' : 'Remove the picture');
  byId('text').placeholder = box.hidden ? 'Describe a picture' : 'Add words';
}

const listed = { found: [] };
function openDetail(found, list) {
  const at = list === grid ? grid.found.indexOf(found) : -1;
  detail.show(found, at < 0 ? null : { at, of: grid.found.length });
}

// Makes the page what the address says.
function show() {
  state = now();
  const onDataset = state.view === 'dataset';
  byId('view-search').hidden = onDataset;
  byId('view-dataset').hidden = !onDataset;
  byId('tab-search').ariaCurrent = onDataset ? null : 'page';
  byId('tab-dataset').ariaCurrent = onDataset ? 'page' : null;
  document.title = `${onDataset ? 'Dataset' : state.text || (state.key || state.picture ? 'More like this' : 'Search')} · laion400m`;
  if (onDataset) dataset.show();
  else showSearch();
  if (!state.show) {
    if (detail.isOpen) detail.close();
  } else if (!detail.isOpen || detail.found?.key !== state.show) {
    const found = [grid, around, dataset.grid].flatMap((list) => list.found.map((one) => [one, list]));
    const [one, list] = found.find(([{ key }]) => key === state.show) ?? [{ key: state.show, image: imageOf(state.show) }, listed];
    openDetail(one, list);
  }
}

function showSearch() {
  const looked = isLookedFor(state);
  const search = JSON.stringify([address({ ...state, show: '' }), [...brought.values()].indexOf(state.picture)]);
  if (search === shown) return;
  leave();
  shown = search;
  byId('view-search').classList.toggle('resting', !looked);
  byId('text').value = state.text;
  byId('looking-around').hidden = looked;
  results.hidden = !looked;
  subject();
  filters.show(state);
  if (!comeBack(looked)) (looked ? find(0) : lookAround());
}

// Keeps what is shown, so that going back is at once and to the same place.
function leave() {
  const list = results.hidden ? around : grid;
  if (!shown || request || !list.found.length) return;
  seen.delete(shown);
  seen.set(shown, { found: [...list.found], whole: more.hidden, took: results.dataset.took, ...list.place() });
  if (seen.size > SEEN_MAX) seen.delete(seen.keys().next().value);
}

function comeBack(looked) {
  const known = seen.get(shown);
  if (!known) return false;
  request?.abort();
  request = null;
  byId('nothing').hidden = byId('wrong').hidden = true;
  const list = looked ? grid : around;
  list.clear();
  list.append(known.found);
  if (looked) tell(state, known.whole, known.took);
  else rest();
  requestAnimationFrame(() => list.goTo(known));
  return true;
}

byId('form').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = byId('text').value.trim();
  seen.clear(); // asked again, it is searched again
  shown = null;
  look({ text, key: state.key, picture: state.picture });
});
byId('subject-remove').addEventListener('click', () => {
  look({ text: state.text });
  byId('text').focus();
});
byId('again').addEventListener('click', () => find(grid.found.length));
byId('others').addEventListener('click', () => look({ seed: String(seed()) }));
byId('nothing-filters').addEventListener('click', () => look({ ...state, show: '', filters: {} }));
byId('all').addEventListener('click', () => {
  const added = basket.add(grid.found);
  toast(`${several(added, 'picture')} added to the basket.`);
});
more.addEventListener('click', (event) => find(grid.found.length, event.detail === 0));

byId('detail').addEventListener('close', () => {
  if (!state.show) return;
  const at = grid.found.findIndex(({ key }) => key === state.show);
  if (at >= 0 && results.contains(document.activeElement)) grid.focus(at);
  if (history.state?.opened) return history.back();
  state = { ...state, show: '' };
  history.replaceState(history.state, '', address(state));
});

filters.start({
  onChange: (chosen) => look({ ...state, show: '', filters: chosen }),
  onRemove: (name) => {
    const { [name]: _, ...rest } = state.filters;
    look({ ...state, show: '', filters: rest });
  },
  onUnfold: offer,
});
// What can be chosen among is counted by the service when it is first asked for.
async function offer() {
  if (offer.asked) return;
  offer.asked = true;
  try {
    const { languages, licenses } = await statistics();
    const names = (counted) => counted.map(([name]) => name);
    filters.offer({ languages: names(languages), licenses: names(licenses) }, state.filters);
  } catch {
    offer.asked = false; // the other filters work without it
  }
}

picture.take({
  onPicture: async (file) => {
    if (file) look({ picture: await picture.fit(file), text: '' });
  },
  onKey: (key) => look({ key }),
});
basket.onChange(() => [grid, around, dataset, detail].forEach((part) => part.refresh()));

for (const link of [byId('tab-search'), byId('tab-dataset'), byId('brand')]) {
  link.addEventListener('click', (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    history.pushState(null, '', link.getAttribute('href'));
    show();
    scrollTo({ top: 0 });
  });
}
byId('help-open').addEventListener('click', () => byId('help').showModal());
byId('help-close').addEventListener('click', () => byId('help').close());
for (const dialog of [byId('help'), byId('basket')]) {
  dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
}
document.addEventListener('keydown', (event) => {
  const typing = event.target.matches('input:not([type="checkbox"], [type="radio"]), select, textarea');
  if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) {
    if (event.target === byId('text') && event.key === 'ArrowDown' && grid.found.length) {
      event.preventDefault();
      grid.focus();
    }
    return;
  }
  if (event.key === '/') {
    event.preventDefault();
    byId('text').select();
  } else if (event.key === '?') {
    byId('help').showModal();
  } else if (event.key === 'B') {
    basket.open();
  }
});
history.scrollRestoration = 'manual'; // results are there later than the browser thinks
window.addEventListener('popstate', show);

info().then(({ rows }) => { byId('size').textContent = several(rows, 'picture'); }, () => {});
identity().then(basket.belongTo, () => {}); // without it the basket lasts as long as the page
filters.offer();
show();
