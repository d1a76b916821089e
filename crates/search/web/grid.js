// Pictures side by side: lazy, light, and walked through by arrow keys.

import { element, icon, licenceName, similarityOf } from './dom.js';

const UNTAGGED = 'UNLIKELY';

// A list of results below `list`. `actions` are open(found, list), like(found), toggle(found) and has(key).
export class Grid {
  constructor(list, actions) {
    this.list = list;
    this.actions = actions;
    this.found = [];
    this.even = true;
    list.addEventListener('click', (event) => this.#clicked(event));
    list.addEventListener('keydown', (event) => this.#pressed(event));
    list.addEventListener('focusin', (event) => {
      const tile = event.target.closest('.tile');
      if (tile) this.#choose(tile);
    });
    // A picture that cannot be had leaves its caption. Such events do not bubble.
    list.addEventListener('error', (event) => event.target.closest('.open')?.classList.add('missing'), true);
  }

  clear() {
    this.found = [];
    this.even = true;
    this.list.replaceChildren();
  }

  append(results) {
    const first = this.found.length;
    const ratios = results.map(ratioOf);
    this.even &&= ratios.every((ratio) => Math.abs(ratio - 1) < 0.02);
    this.list.classList.toggle('even', this.even);
    this.found.push(...results);
    this.list.append(...results.map((found, at) => this.#tile(found, ratios[at], first + at)));
    if (first === 0 && results.length) this.#choose(this.list.firstElementChild);
    return this.list.children[first];
  }

  // Tells by the buttons what is in the basket.
  refresh() {
    for (const tile of this.list.children) this.#mark(tile);
  }

  focus(at = 0) {
    this.list.children[at]?.querySelector('.open').focus();
  }

  // What is in sight: the first tile, and where it is in the window.
  place() {
    const box = (at) => this.list.children[at].getBoundingClientRect();
    const at = this.found.findIndex((_, tile) => box(tile).bottom > 0);
    return { at, top: at < 0 ? 0 : box(at).top };
  }

  goTo({ at, top }) {
    const tile = this.list.children[at];
    if (!tile) return;
    tile.scrollIntoView({ behavior: 'instant', block: 'start' });
    scrollBy({ top: tile.getBoundingClientRect().top - top, behavior: 'instant' });
  }

  #tile(found, ratio, at) {
    const image = element('img', {
      src: found.image, alt: found.caption, loading: 'lazy', decoding: 'async', width: found.width, height: found.height,
    });
    const name = found.caption.length > 60 ? `${found.caption.slice(0, 60)}…` : found.caption;
    const similarity = similarityOf(found);
    const licence = licenceName(found.license);
    const tile = element('li', { class: 'tile' },
      element('button', { class: 'open', type: 'button', tabindex: -1, 'aria-haspopup': 'dialog' }, image),
      element('div', { class: 'actions' },
        element('button', { class: 'like', type: 'button', tabindex: -1, title: 'More like this (m)',
          'aria-label': `More like this: ${name}` }, icon('like')),
        element('button', { class: 'keep', type: 'button', tabindex: -1, title: 'Basket (b)',
          'aria-label': `In the basket: ${name}`, 'aria-pressed': 'false' }, icon('add'), icon('done'))),
      element('p', { class: 'caption', title: found.caption }, found.caption),
      element('p', { class: 'facts' },
        similarity && element('span', { title: 'How alike CLIP finds picture and caption' }, `similarity ${similarity}`),
        licence && element('span', {}, licence),
        found.nsfw !== UNTAGGED && element('span', { class: 'tag' }, found.nsfw),
        found.folded > 0 && element('span', { title: 'Nearly the same pictures that are left out' }, `+${found.folded} alike`)));
    tile.style.setProperty('--ratio', ratio.toFixed(3));
    tile.dataset.at = at;
    this.#mark(tile);
    return tile;
  }

  #mark(tile) {
    tile.querySelector('.keep').setAttribute('aria-pressed', this.actions.has(this.found[tile.dataset.at].key));
  }

  // One tile at a time is reached by Tab; arrow keys say which.
  #choose(tile) {
    if (this.chosen === tile) return;
    const buttons = (of, index) => of?.querySelectorAll('button').forEach((button) => { button.tabIndex = index; });
    buttons(this.chosen, -1);
    buttons(tile, 0);
    this.chosen = tile;
  }

  #clicked(event) {
    const button = event.target.closest('button');
    const tile = event.target.closest('.tile');
    if (!tile || !button) return;
    const found = this.found[tile.dataset.at];
    if (button.classList.contains('like')) this.actions.like(found);
    else if (button.classList.contains('keep')) this.actions.toggle(found);
    else this.actions.open(found, this);
  }

  #pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const tile = event.target.closest('.tile');
    const to = this.#neighbour(tile, event.key);
    if (to) {
      event.preventDefault();
      to.querySelector('.open').focus();
      to.scrollIntoView({ block: 'nearest' });
    } else if (tile && event.key === 'b') {
      this.actions.toggle(this.found[tile.dataset.at]);
    } else if (tile && event.key === 'm') {
      this.actions.like(this.found[tile.dataset.at]);
    }
  }

  #neighbour(tile, key) {
    const { firstElementChild: first, lastElementChild: last } = this.list;
    if (!tile) return key.startsWith('Arrow') ? first : null;
    switch (key) {
      case 'ArrowRight': return tile.nextElementSibling;
      case 'ArrowLeft': return tile.previousElementSibling;
      case 'ArrowDown': return inNextRow(tile, 'nextElementSibling') ?? last;
      case 'ArrowUp': return inNextRow(tile, 'previousElementSibling') ?? first;
      case 'Home': return first;
      case 'End': return last;
      default: return null;
    }
  }
}

// Tiles are no wider and no higher than their rows can bear.
function ratioOf({ width, height }) {
  const ratio = width > 0 && height > 0 ? width / height : 1;
  return Math.min(Math.max(ratio, 0.5), 2.5);
}

// The tile above or below: in the next row that way, the one whose middle is nearest.
function inNextRow(tile, step) {
  const middle = (of) => of.offsetLeft + of.offsetWidth / 2;
  let next = tile[step];
  while (next && next.offsetTop === tile.offsetTop) next = next[step];
  if (!next) return null;
  const top = next.offsetTop;
  let best = next;
  for (; next && next.offsetTop === top; next = next[step]) {
    if (Math.abs(middle(next) - middle(tile)) < Math.abs(middle(best) - middle(tile))) best = next;
  }
  return best;
}
