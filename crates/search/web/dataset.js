// What the dataset is: how it came about, how it is spread, and some of it.

import { info, random, report, statistics } from './api.js';
import { funnel, histogram, ranking } from './charts.js';
import { byId, element, licenceName, number } from './dom.js';
import { Grid } from './grid.js';
import { NSFW } from './query.js';

const SAMPLES = 12;
const place = (name) => byId(`dataset-${name}`);

export class Dataset {
  // `actions` are those of a grid, and filter(name, value) to look at a part of the dataset.
  constructor(actions) {
    this.actions = actions;
    this.grid = new Grid(place('samples'), actions);
    place('others').addEventListener('click', () => this.#samples());
  }

  refresh() { this.grid.refresh(); }

  // Draws it the first time it is looked at.
  show() {
    if (this.drawn) return;
    this.drawn = true;
    part('facts', async () => facts(await info()));
    part('funnel', async () => stages(await report()), 'This dataset has no report: it was not made by a run of this program, or its report.json is gone.');
    part('charts', async () => this.#charts(await statistics()));
    this.#samples();
  }

  async #samples() {
    const said = place('samples-said');
    try {
      const { results } = await random(new URLSearchParams({ count: SAMPLES, seed: seed() }));
      this.grid.clear();
      this.grid.append(results);
      said.textContent = results.length ? '' : 'There are no pictures that are tagged safe.';
    } catch (error) {
      said.textContent = `No samples: ${error.message}`;
    }
  }

  #charts(all) {
    const to = (name) => (value) => this.actions.filter(name, value);
    const pixels = (value) => `${number(Math.round(value))} px`;
    const tags = Object.entries(all.nsfw).filter(([, count]) => count).map(([tag, count]) => [NSFW[tag] ?? tag.toLowerCase(), count, tag]);
    const histograms = [
      histogram('Similarity of picture and caption', all.similarity, (value) => value.toFixed(2)),
      histogram('Width of the original pictures', all.width, pixels),
      histogram('Height of the original pictures', all.height, pixels),
    ];
    const licences = all.licenses.map(([name, count]) => [licenceName(name) || 'not known', count, licenceName(name) && name]);
    const rankings = [
      ranking('Tags', tags, all.rows, to('nsfw')),
      ranking('Licences', licences, all.rows, to('license')),
      ranking('Hosts', all.hosts.map(([name, count]) => [name, count, name]), all.rows, to('host')),
      ranking('Languages', all.languages.map(([name, count]) => [name, count, name]), all.rows, to('language')),
    ];
    return [['histograms', histograms], ['rankings', rankings]].map(([name, drawn]) =>
      element('div', { class: name }, drawn));
  }
}

export const seed = () => Math.floor(Math.random() * 1e9);

// Fills a part of the page, or says why it is empty; `missing` is said where the service has none.
async function part(name, draw, missing) {
  try {
    place(name).replaceChildren(...[await draw()].flat());
  } catch (error) {
    const words = missing && error.status === 404 ? missing : `That did not work: ${error.message}`;
    place(name).replaceChildren(element('p', { class: 'note' }, words));
  }
}

function facts({ rows, deleted, dimensions, model, version }) {
  const told = [
    ['Pictures', number(rows)], ['Deleted', deleted ? number(deleted) : ''], ['Dimensions', dimensions && number(dimensions)],
    ['Model', model, 'wide'], ['Program', version],
  ].filter(([, value]) => value);
  return told.map(([name, value, kind]) => element('div', { class: kind }, element('dt', {}, name), element('dd', { title: value }, value)));
}

function stages({ stages: all, truth }) {
  return [
    funnel(all),
    truth && element('p', { class: 'note' },
      `Against the known truth: precision ${truth.precision.toFixed(3)}, recall ${truth.recall.toFixed(3)}.`),
  ].filter(Boolean);
}
