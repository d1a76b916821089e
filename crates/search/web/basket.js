// Rows that the user puts aside. They stay in this browser, and leave it only as keys to be made into a file.

import { exported, imageOf } from './api.js';
import { byId, element, icon, several } from './dom.js';

const MOST = 10_000; // what the service makes a file of at once
const PAGE = 100; // rows of the drawer that are drawn at once
const FILES = { parquet: 'basket.parquet', csv: 'basket.csv', keys: 'keys.txt' };

const drawer = byId('basket');
const listed = byId('basket-list');
const said = byId('basket-said');
let store = null; // each dataset has its own, since keys mean something in one alone
let kept = new Map();
let removed = null;
let drawn = PAGE;
const watchers = [];

function load() {
  try {
    const rows = JSON.parse(localStorage.getItem(store) ?? '[]');
    return new Map(rows.filter(([key]) => /^\d+$/.test(key)).map(([key, caption]) => [key, String(caption)]));
  } catch {
    return new Map();
  }
}

function changed() {
  try {
    if (store) localStorage.setItem(store, JSON.stringify([...kept]));
  } catch {
    say('This browser keeps nothing for this page: the basket is gone when it is closed.');
  }
  tell();
}

function tell() {
  byId('basket-count').textContent = kept.size ? String(kept.size) : '';
  byId('basket-open').setAttribute('aria-label', `Basket: ${several(kept.size, 'picture')}`);
  if (drawer.open) draw();
  watchers.forEach((watcher) => watcher());
}

function say(text, wrong = false) {
  said.textContent = text;
  said.classList.toggle('error', wrong);
}

// Says which dataset the rows are of.
export function belongTo(dataset) {
  store = `laion400m.basket ${dataset}`;
  const early = kept;
  kept = new Map([...load(), ...early]);
  if (early.size) changed();
  else tell();
}

export const has = (key) => kept.has(key);
export const onChange = (watcher) => watchers.push(watcher);

// Puts rows in; says how many of them were not in it.
export function add(rows) {
  const before = kept.size;
  for (const { key, caption } of rows) {
    if (kept.size < MOST) kept.set(key, caption);
  }
  changed();
  return kept.size - before;
}

// In, or out if it is in; says which.
export function toggle(found) {
  if (!kept.delete(found.key)) return add([found]) > 0;
  changed();
  return false;
}

function draw() {
  const rows = [...kept];
  byId('basket-empty').hidden = rows.length > 0;
  byId('basket-tools').hidden = byId('basket-clear').hidden = rows.length === 0;
  byId('basket-undo').hidden = !removed;
  byId('basket-total').textContent = several(rows.length, 'picture');
  listed.replaceChildren(...rows.slice(0, drawn).map(([key, caption]) => element('li', {},
    element('img', { src: imageOf(key), alt: '', loading: 'lazy', width: 56, height: 56 }),
    element('p', {}, caption),
    element('button', { type: 'button', class: 'quiet', title: 'Remove', 'aria-label': `Remove: ${caption}`,
      onclick: () => remove(key) }, icon('close')))));
  byId('basket-more').hidden = rows.length <= drawn;
}

// The focus goes to what takes the place of the row.
function remove(key) {
  const at = [...kept.keys()].indexOf(key);
  kept.delete(key);
  changed();
  const buttons = listed.querySelectorAll('button');
  (buttons[Math.min(at, buttons.length - 1)] ?? byId('basket-close')).focus();
}

function empty() {
  removed = kept;
  kept = new Map();
  changed();
  say(`${several(removed.size, 'picture')} removed.`);
  byId('basket-undo').focus();
}

function undo() {
  kept = new Map([...removed, ...kept]);
  removed = null;
  changed();
  say('');
  byId('basket-close').focus();
}

async function download(format) {
  say('Making the file …');
  try {
    const address = URL.createObjectURL(await exported(format, [...kept.keys()]));
    element('a', { href: address, download: FILES[format] }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
    say(`${FILES[format]} has ${several(kept.size, 'row')}.`);
  } catch (error) {
    say(`No file: ${error.message}`, true);
  }
}

export function open() {
  drawn = PAGE;
  say('');
  removed = null;
  drawer.showModal();
  draw();
}

byId('basket-open').addEventListener('click', open);
byId('basket-close').addEventListener('click', () => drawer.close());
byId('basket-clear').addEventListener('click', empty);
byId('basket-undo').addEventListener('click', undo);
byId('basket-more').addEventListener('click', () => {
  const first = drawn;
  drawn += PAGE;
  draw();
  listed.children[first]?.querySelector('button').focus();
});
for (const button of drawer.querySelectorAll('[data-format]')) {
  button.addEventListener('click', () => download(button.dataset.format));
}
// Another window of this page has changed it.
window.addEventListener('storage', (event) => {
  if (store && (event.key === store || event.key === null)) {
    kept = load();
    tell();
  }
});
