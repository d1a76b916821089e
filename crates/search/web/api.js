// The public API, version 1, and nothing else.

const BASE = '/api/v1';

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function send(path, options = {}) {
  let answer;
  try {
    answer = await fetch(BASE + path, options);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError('The server does not answer. Is it still running?', 0);
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => null);
  const cause = body?.error ?? (answer.status === 404 ? 'this server does not have that' : `status ${answer.status}`);
  throw new ApiError(cause, answer.status);
}

const json = async (path, options) => (await send(path, options)).json();
const post = (body, signal) => ({
  method: 'POST', signal, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body),
});

export const info = () => json('/info');
// What tells this dataset from others that were served at the same address: its name, and the model.
export async function identity() {
  const [{ model }, names] = await Promise.all([info(), fetch('/indices-list').then((answer) => answer.json()).catch(() => [])]);
  return `${names[0] ?? ''} ${model}`;
}
export const report = () => json('/report');
export const statistics = () => json('/statistics');
export const sample = (key, signal) => json(`/samples/${encodeURIComponent(key)}`, { signal });
export const imageOf = (key) => `${BASE}/images/${encodeURIComponent(key)}`;
export const keyOfImage = (address) => {
  const url = new URL(address, location.href);
  const path = url.origin === location.origin && url.pathname.match(/^\/api\/v1\/images\/(\d+)$/);
  return path ? path[1] : null;
};

export const random = (parameters, signal) => json(`/random?${parameters}`, { signal });

// A table of these rows, as a file.
export async function exported(format, keys) {
  return (await send(`/export?format=${format}`, post({ keys }))).blob();
}

// What is looked for: words, a picture of the dataset, a picture of the user's, or words and a picture.
export async function search({ text, key, picture }, parameters, signal) {
  if (picture && !text) {
    const type = picture.type || 'application/octet-stream';
    const options = { method: 'POST', signal, body: picture, headers: { 'content-type': type } };
    return json(`/search/image?${parameters}`, options);
  }
  if (!text || !(key || picture)) {
    const query = new URLSearchParams(parameters);
    query.set(key ? 'key' : 'text', key || text);
    return json(`/search?${query}`, { signal });
  }
  const first = key ? { key } : { image: await base64(picture) };
  return json('/search', post({ query: [first, ...words(text)], ...Object.fromEntries(parameters) }, signal));
}

// `beach - people + sunset` as its parts, with their signs.
function words(text) {
  const parts = ` + ${text}`.split(/ ([+-]) /).slice(1);
  const found = [];
  for (let at = 0; at < parts.length; at += 2) {
    const part = parts[at + 1].trim();
    if (part) found.push({ text: part, weight: parts[at] === '-' ? -1 : 1 });
  }
  return found;
}

function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(',') + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
