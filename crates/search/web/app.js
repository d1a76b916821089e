// The page. It uses nothing but the public API, and trusts no text of the dataset: captions are set as text only.

const PAGE = 40;
const byId = (id) => document.getElementById(id);
const status = byId('status');
const results = byId('results');
let request = null;

// What the address bar says is what is shown.
function state() {
  const at = new URLSearchParams(location.search);
  return {
    view: at.get('view') === 'report' ? 'report' : 'search',
    text: at.get('text') ?? '',
    key: at.get('key') ?? '',
    safe: at.get('safe') !== 'false',
    modality: at.get('modality') === 'text' ? 'text' : 'image',
    similarity: at.get('similarity_min') ?? '',
  };
}

function address(wanted) {
  const at = new URLSearchParams();
  if (wanted.key) at.set('key', wanted.key);
  else if (wanted.text) at.set('text', wanted.text);
  if (!wanted.safe) at.set('safe', 'false');
  if (wanted.modality === 'text') at.set('modality', 'text');
  if (wanted.similarity) at.set('similarity_min', wanted.similarity);
  return at;
}

function go(wanted) {
  const at = address(wanted).toString();
  history.pushState(null, '', at ? `/?${at}` : '/');
  show();
}

function chosen() {
  return {
    text: byId('text').value.trim(),
    key: '',
    safe: byId('safe').checked,
    modality: byId('modality').value,
    similarity: byId('similarity').value,
  };
}

async function ask(path, signal) {
  const answer = await fetch(path, { signal });
  const body = await answer.json().catch(() => ({ error: `status ${answer.status}` }));
  if (!answer.ok) throw new Error(body.error ?? `status ${answer.status}`);
  return body;
}

function say(where, text, wrong = false) {
  where.textContent = text;
  where.classList.toggle('error', wrong);
}

// Only what a browser may open without harm.
function link(anchor, url) {
  const safe = /^https?:\/\//i.test(url);
  anchor.hidden = !safe;
  if (safe) anchor.href = url;
}

function card(found) {
  const item = byId('card').content.firstElementChild.cloneNode(true);
  const image = item.querySelector('img');
  image.src = found.image;
  image.alt = found.caption;
  const picture = item.querySelector('.picture');
  picture.title = 'More like this';
  picture.setAttribute('aria-label', `More like this: ${found.caption}`);
  picture.addEventListener('click', () => go({ ...chosen(), text: '', key: found.key }));
  item.querySelector('.caption').textContent = found.caption;
  item.querySelector('.score').textContent = `score ${found.score.toFixed(3)}`;
  item.querySelector('.license').textContent = licence(found.license);
  link(item.querySelector('.original'), found.url);
  link(item.querySelector('.page'), found.page_url);
  return item;
}

function licence(url) {
  const parts = url.match(/creativecommons\.org\/(licenses|publicdomain)\/([a-z+-]+)\/([0-9.]+)/i);
  if (!parts) return '';
  return parts[1] === 'publicdomain' ? `public domain (${parts[2]})` : `CC ${parts[2].toUpperCase()} ${parts[3]}`;
}

async function search(offset) {
  const wanted = state();
  request?.abort();
  const mine = (request = new AbortController());
  const at = address(wanted);
  at.set('count', PAGE);
  at.set('offset', offset);
  byId('more').hidden = true;
  results.setAttribute('aria-busy', 'true');
  if (offset === 0) results.replaceChildren();
  say(status, 'Searching …');
  try {
    const answer = await ask(`/api/v1/search?${at}`, mine.signal);
    results.append(...answer.results.map(card));
    const count = results.children.length;
    const of = wanted.key ? 'more like the picture you chose' : `for “${wanted.text}”`;
    say(status, count ? `${count} results ${of}, best first, in ${answer.took_ms} ms` : `Nothing found ${of}.`);
    byId('more').hidden = answer.results.length < PAGE;
  } catch (error) {
    if (error.name !== 'AbortError') say(status, `That did not work: ${error.message}`, true);
  } finally {
    if (request === mine) results.removeAttribute('aria-busy');
  }
}

function row(kind, cells) {
  const line = document.createElement('tr');
  line.className = kind;
  cells.forEach((text, i) => {
    const cell = document.createElement(i === 0 ? 'th' : 'td');
    if (i === 0) cell.scope = 'row';
    cell.textContent = text;
    line.append(cell);
  });
  return line;
}

async function report() {
  const body = document.querySelector('#funnel tbody');
  try {
    const { stages, truth } = await ask('/api/v1/report');
    const number = (value) => value.toLocaleString('en');
    const sum = (reasons) => Object.values(reasons).reduce((total, value) => total + value, 0);
    body.replaceChildren();
    for (const { stage, rows, kept, dropped, failed } of stages) {
      const share = (value) => (rows ? `${((100 * value) / rows).toFixed(1)} %` : '');
      body.append(row('stage', [stage, number(rows), number(kept), number(sum(dropped)), number(sum(failed)), share(kept)]));
      const reasons = (all, column) => Object.entries(all).forEach(([reason, value]) => {
        const cells = [reason.replaceAll('_', ' '), '', '', '', '', share(value)];
        cells[column] = number(value);
        body.append(row('reason', cells));
      });
      reasons(dropped, 3);
      reasons(failed, 4);
    }
    byId('truth').textContent = truth
      ? `Against the known truth: precision ${truth.precision.toFixed(3)}, recall ${truth.recall.toFixed(3)}.`
      : '';
    say(byId('report-status'), '');
  } catch (error) {
    say(byId('report-status'), `No report: ${error.message}`, true);
  }
}

function show() {
  const wanted = state();
  const reporting = wanted.view === 'report';
  byId('view-search').hidden = reporting;
  byId('view-report').hidden = !reporting;
  byId('tab-search').ariaCurrent = reporting ? null : 'page';
  byId('tab-report').ariaCurrent = reporting ? 'page' : null;
  document.title = `${reporting ? 'Dataset' : wanted.text || 'Search'} · laion400m`;
  if (reporting) return report();
  byId('text').value = wanted.text;
  byId('safe').checked = wanted.safe;
  byId('modality').value = wanted.modality;
  byId('similarity').value = wanted.similarity;
  byId('examples').hidden = Boolean(wanted.text || wanted.key);
  if (wanted.text || wanted.key) return search(0);
  request?.abort();
  results.replaceChildren();
  byId('more').hidden = true;
  return say(status, '');
}

byId('form').addEventListener('submit', (event) => {
  event.preventDefault();
  if (chosen().text) go(chosen());
});
for (const id of ['safe', 'modality', 'similarity']) {
  byId(id).addEventListener('change', () => {
    const { text, key } = state();
    if (text || key) go({ ...chosen(), text, key });
  });
}
for (const button of document.querySelectorAll('[data-text]')) {
  button.addEventListener('click', () => go({ ...chosen(), text: button.dataset.text }));
}
byId('more').addEventListener('click', () => search(results.children.length));
document.addEventListener('keydown', (event) => {
  const typing = /^(input|select|textarea)$/i.test(event.target.tagName);
  if (event.key === '/' && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    byId('text').select();
  }
});
window.addEventListener('popstate', show);
ask('/api/v1/info').then(
  ({ rows }) => { byId('size').textContent = `${rows.toLocaleString('en')} pictures`; },
  () => {},
);
show();
