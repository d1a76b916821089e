// Elements. Text of the dataset comes from strangers: it becomes text nodes and attributes, never HTML, and only
// addresses of the web become links.

export const byId = (id) => document.getElementById(id);

// `element('p', { class: 'quiet', onclick: … }, 'text', child)`; what is null, undefined or false is left out.
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? '' : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

const SVG = 'http://www.w3.org/2000/svg';

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// One of the drawings in the page's head.
export function icon(name) {
  return svg('svg', { class: 'icon', 'aria-hidden': 'true' }, svg('use', { href: `#icon-${name}` }));
}

// What a browser may open without harm, or null.
export function webAddress(text) {
  try {
    const url = new URL(text);
    return url.protocol === 'https:' || url.protocol === 'http:' ? url.href : null;
  } catch {
    return null;
  }
}

export function webLink(text, address, more = {}) {
  const href = webAddress(address);
  if (!href) return null;
  return element('a', { href, target: '_blank', rel: 'noopener noreferrer nofollow', ...more }, text);
}

export function hostOf(address) {
  const href = webAddress(address);
  return href ? new URL(href).hostname : '';
}

// `CC BY-SA 4.0` for an address of Creative Commons; other text as it is; nothing for what is not known.
export function licenceName(licence) {
  if (!licence || licence === '?') return '';
  const parts = licence.match(/creativecommons\.org\/(licenses|publicdomain)\/([a-z+-]+)(?:\/([0-9.]+))?/i);
  if (!parts) return licence.replace(/^https?:\/\/(www\.)?/i, '');
  const [, kind, code, version = ''] = parts;
  if (kind === 'publicdomain') return code === 'zero' ? `CC0 ${version}`.trim() : 'Public domain';
  return `CC ${code.toUpperCase()} ${version}`.trim();
}

export const number = (value) => value.toLocaleString('en');
export const several = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;
export const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : '');

// The service sends -1 or nothing for a similarity that nobody knows.
export function similarityOf(found) {
  return typeof found.similarity === 'number' && found.similarity > -1 ? found.similarity.toFixed(3) : '';
}
