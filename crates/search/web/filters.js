// The filters: folded away until they are wanted, those in use told as chips.

import { byId, element, icon } from './dom.js';
import { NSFW, inUse, licenceCode } from './query.js';

const panel = byId('filters');
const toggle = byId('filters-toggle');
const chips = byId('chips');
const FIELDS = ['modality', 'similarity_min', 'similarity_max', 'width_min', 'height_min', 'host'];
const CHECKS = ['fold', 'exact'];
const MANY = 24; // languages or licences to choose from; further ones are typed into the address

// Calls onChange(filters) when the user has changed one, onRemove(name) for a chip, onUnfold() when they are looked at.
export function start({ onChange, onRemove, onUnfold }) {
  toggle.addEventListener('click', () => {
    unfold(panel.hidden);
    if (!panel.hidden) onUnfold();
  });
  panel.addEventListener('change', () => { if (panel.reportValidity()) onChange(chosen()); });
  panel.addEventListener('submit', (event) => {
    event.preventDefault();
    if (panel.reportValidity()) onChange(chosen());
  });
  byId('filters-clear').addEventListener('click', () => onChange({}));
  chips.addEventListener('click', (event) => {
    const chip = event.target.closest('button');
    if (!chip) return;
    const at = [...chips.children].indexOf(chip.closest('li'));
    onRemove(chip.dataset.name);
    (chips.children[Math.min(at, chips.children.length - 1)]?.querySelector('button') ?? toggle).focus();
  });
  panel.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    unfold(false);
    toggle.focus();
  });
}

function unfold(open) {
  panel.hidden = !open;
  toggle.setAttribute('aria-expanded', open);
  if (open) panel.querySelector('input, select').focus();
}

// Offers what the dataset has: { languages: [..], licenses: [..] }, and leaves alone what is being typed.
export function offer({ languages = [], licenses = [] } = {}, filters = {}) {
  choices('nsfw', Object.keys(NSFW), (tag) => NSFW[tag] ?? tag);
  choices('language', languages, (code) => code);
  const known = licenses.filter((licence) => licence && licence !== '?');
  choices('license', known.length ? ['any', ...known] : [], licenceCode);
  check(filters);
}

function check(filters) {
  for (const name of ['nsfw', 'language', 'license']) {
    const wanted = (filters[name] ?? '').split(',');
    for (const box of panel.querySelectorAll(`[name="${name}"]`)) box.checked = wanted.includes(box.value);
  }
}

function choices(name, values, words) {
  const group = byId(`filter-${name}`);
  group.hidden = values.length === 0;
  group.querySelector('.choices').replaceChildren(...values.slice(0, MANY).map((value) =>
    element('label', { class: 'choice' }, element('input', { type: 'checkbox', name, value }), words(value))));
}

function chosen() {
  const form = new FormData(panel);
  const filters = {};
  for (const name of FIELDS) {
    const value = String(form.get(name) ?? '').trim();
    if (value && !(name === 'modality' && value === 'image')) filters[name] = value;
  }
  for (const name of CHECKS) if (form.get(name)) filters[name] = 'true';
  for (const name of ['language', 'license']) {
    const values = form.getAll(name);
    if (values.length) filters[name] = values.includes('any') ? 'any' : values.join(',');
  }
  const safe = form.get('safety');
  if (safe === 'all') filters.safe = 'false';
  if (safe === 'some') filters.nsfw = form.getAll('nsfw').join(',') || 'UNLIKELY';
  return filters;
}

// Fills in the form and the chips as a state says.
export function show(state) {
  const { filters } = state;
  for (const name of FIELDS) {
    const value = filters[name] ?? (name === 'modality' ? 'image' : '');
    const field = panel.elements[name];
    if (field instanceof RadioNodeList || field.value !== value) field.value = value;
  }
  for (const name of CHECKS) panel.elements[name].checked = filters[name] === 'true';
  check(filters);
  panel.elements.safety.value = filters.nsfw ? 'some' : filters.safe === 'false' ? 'all' : 'safe';
  byId('filter-nsfw').hidden = !filters.nsfw || !byId('filter-nsfw').querySelector('input');
  const used = inUse(state);
  byId('filters-count').textContent = used.length ? String(used.length) : '';
  byId('filters-clear').hidden = used.length === 0;
  chips.hidden = used.length === 0;
  chips.replaceChildren(...used.map(([name, words]) => element('li', {},
    element('button', { type: 'button', class: 'chip', 'data-name': name, 'aria-label': `Remove filter: ${words}` },
      words, icon('close')))));
}
