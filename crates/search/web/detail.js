// One picture with all that is known of it, and what is like it.

import { sample, search } from './api.js';
import { byId, element, hostOf, licenceName, number, similarityOf, webAddress, webLink } from './dom.js';
import { Grid } from './grid.js';
import { NSFW, parameters } from './query.js';

const ALIKE = 12;
// Told in words above the table of all columns.
const TOLD = new Set(['key', 'caption', 'url', 'page_url', 'license', 'nsfw', 'language', 'similarity', 'width', 'height',
  'original_width', 'original_height', 'image', 'score', 'folded']);

const dialog = byId('detail');

export class Detail {
  // `actions` are those of a grid, and host(name) and move(steps); `filters()` are in use now.
  constructor(actions, filters) {
    this.actions = actions;
    this.filters = filters;
    this.alike = new Grid(byId('detail-alike'), actions);
    byId('detail-close').addEventListener('click', () => dialog.close());
    byId('detail-back').addEventListener('click', () => actions.move(-1));
    byId('detail-on').addEventListener('click', () => actions.move(1));
    byId('detail-like').addEventListener('click', () => actions.like(this.found));
    byId('detail-keep').addEventListener('click', () => actions.toggle(this.found));
    dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener('close', () => this.request?.abort());
    dialog.addEventListener('keydown', (event) => this.#pressed(event));
  }

  get isOpen() { return dialog.open; }

  close() { dialog.close(); }

  // Shows a result, or what the service knows of the key alone. `place` is where it is among the results, if it is.
  show(found, place) {
    this.found = found;
    const draws = this.#draw(found, place);
    if (!dialog.open) dialog.showModal();
    byId('detail-body').scrollTop = 0;
    byId('detail-title').focus();
    return draws;
  }

  refresh() {
    if (!this.found) return;
    const isKept = this.actions.has(this.found.key);
    byId('detail-keep').setAttribute('aria-pressed', isKept);
    byId('detail-keep').querySelector('span').textContent = isKept ? 'In the basket' : 'Add to basket';
    this.alike.refresh();
  }

  async #draw(found, place) {
    this.request?.abort();
    const { signal } = (this.request = new AbortController());
    byId('detail-back').disabled = !place || place.at === 0;
    byId('detail-on').disabled = !place || place.at + 1 >= place.of;
    byId('detail-wrong').textContent = '';
    byId('detail-columns').replaceChildren();
    byId('detail-all').hidden = true;
    this.alike.clear();
    this.#facts(found);
    this.refresh();
    try {
      const [all, like] = await Promise.allSettled([
        sample(found.key, signal),
        search({ key: found.key }, parameters({ key: found.key, filters: this.filters() }, { count: ALIKE + 1 }), signal),
      ]);
      if (signal.aborted) return;
      if (all.status === 'fulfilled') {
        if (!found.caption) this.#facts((this.found = { ...named(all.value), ...found }));
        this.refresh();
        this.#columns(all.value);
      } else if (!found.caption) throw all.reason;
      if (like.status === 'fulfilled') {
        this.alike.append(like.value.results.filter(({ key }) => key !== found.key).slice(0, ALIKE));
      }
      byId('detail-like-head').hidden = this.alike.found.length === 0;
    } catch (error) {
      if (!signal.aborted) byId('detail-wrong').textContent = `That did not work: ${error.message}`;
    }
  }

  #facts(found) {
    const image = byId('detail-image');
    image.src = found.image;
    image.alt = found.caption ?? '';
    const full = byId('detail-full');
    full.href = found.image;
    byId('detail-title').textContent = found.caption ?? `Picture ${found.key}`;
    const facts = byId('detail-facts');
    facts.replaceChildren();
    const fact = (name, ...value) => {
      if (value.some(Boolean)) facts.append(element('dt', {}, name), element('dd', {}, ...value));
    };
    const size = (width, height) => (width > 0 && height > 0 ? `${number(width)} × ${number(height)}` : '');
    const licence = licenceName(found.license);
    const host = hostOf(found.url ?? '');
    if (typeof found.score === 'number') fact('Score', found.score.toFixed(3), note('how well it fits the search'));
    const similarity = similarityOf(found);
    fact('Similarity', similarity, similarity && note('of picture and caption'));
    fact('Licence', licence && (webLink(licence, found.license, { rel: 'license noopener noreferrer nofollow' }) ?? licence));
    fact('Tag', found.nsfw && `${NSFW[found.nsfw] ?? found.nsfw}`);
    fact('Language', found.language);
    fact('Original', size(found.original_width, found.original_height));
    fact('Stored', size(found.width, found.height));
    fact('Host', host && element('button', { type: 'button', class: 'text', title: 'Only pictures of this host',
      onclick: () => this.actions.host(host) }, host));
    fact('Key', element('code', {}, found.key));
    const links = byId('detail-links');
    links.replaceChildren(...[
      webLink('Original picture', found.url ?? ''),
      webLink('Page it is on', found.page_url ?? ''),
    ].filter(Boolean));
  }

  #columns(all) {
    const rows = Object.entries(all).filter(([name, value]) => !TOLD.has(name.toLowerCase()) && value !== null && value !== '');
    byId('detail-all').hidden = rows.length === 0;
    byId('detail-columns').replaceChildren(...rows.map(([name, value]) => {
      const text = typeof value === 'object' ? JSON.stringify(value) : String(value);
      return element('tr', {}, element('th', { scope: 'row' }, name),
        element('td', {}, webAddress(text) ? webLink(text, text) : text));
    }));
  }

  #pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest('#detail-alike')) return;
    if (event.key === 'ArrowLeft' && !byId('detail-back').disabled) this.actions.move(-1);
    else if (event.key === 'ArrowRight' && !byId('detail-on').disabled) this.actions.move(1);
    else if (event.key === 'b') this.actions.toggle(this.found);
    else if (event.key === 'm') this.actions.like(this.found);
    else return;
    event.preventDefault();
  }
}

// Columns as results name them: files of other programs write some of them in capitals.
const named = (all) => Object.fromEntries(Object.entries(all).map(([name, value]) => [name.toLowerCase(), value]));
const note = (text) => element('span', { class: 'note' }, text);
