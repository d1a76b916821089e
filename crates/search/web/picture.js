// Pictures that the user brings: chosen, dropped or pasted. They are sent to this server and nowhere else.

import { keyOfImage } from './api.js';
import { byId } from './dom.js';

const SENT_BYTES_MAX = 9 << 20; // the service takes 10 MB
const SIDE_MAX = 1024; // of a picture that is too large to be sent as it is; CLIP sees 224 to 336 pixels
const PREVIEW = 72;

// Calls onPicture(file) or onKey(key), for a picture of the page itself.
export function take({ onPicture, onKey }) {
  const overlay = byId('drop');
  const chooser = byId('file');
  let depth = 0;
  const leaves = () => {
    depth = 0;
    overlay.hidden = true;
  };
  const carries = ({ types }) => types.includes('Files') || types.includes('text/uri-list');

  document.addEventListener('dragenter', (event) => {
    if (!carries(event.dataTransfer) || document.querySelector('dialog[open]')) return;
    depth += 1;
    overlay.hidden = false;
  });
  document.addEventListener('dragleave', () => {
    depth -= 1;
    if (depth <= 0) leaves();
  });
  document.addEventListener('dragover', (event) => {
    if (carries(event.dataTransfer)) event.preventDefault();
  });
  document.addEventListener('drop', (event) => {
    if (!carries(event.dataTransfer)) return;
    event.preventDefault();
    leaves();
    const key = keyOfImage(event.dataTransfer.getData('text/uri-list').split(/\r?\n/)[0] || 'about:blank');
    if (key) onKey(key);
    else onPicture(pictureOf(event.dataTransfer.files));
  });
  document.addEventListener('paste', (event) => {
    const picture = pictureOf(event.clipboardData?.files ?? []);
    if (picture && !document.querySelector('dialog[open]')) {
      event.preventDefault();
      onPicture(picture);
    }
  });
  byId('choose').addEventListener('click', () => chooser.click());
  chooser.addEventListener('change', () => {
    if (chooser.files.length) onPicture(chooser.files[0]);
    chooser.value = ''; // the same file may be chosen again
  });
}

const pictureOf = (files) => [...files].find((file) => file.type.startsWith('image/')) ?? files[0] ?? null;

// Draws the picture small; whether the browser can read it.
export async function draw(canvas, picture) {
  const side = PREVIEW;
  canvas.width = canvas.height = side;
  try {
    const bitmap = await createImageBitmap(picture);
    const scale = Math.max(side / bitmap.width, side / bitmap.height);
    const [width, height] = [bitmap.width * scale, bitmap.height * scale];
    canvas.getContext('2d').drawImage(bitmap, (side - width) / 2, (side - height) / 2, width, height);
    bitmap.close();
    return true;
  } catch {
    return false;
  }
}

// The picture as it is, or a smaller one where it is too large to be sent.
export async function fit(picture) {
  if (picture.size <= SENT_BYTES_MAX) return picture;
  const bitmap = await createImageBitmap(picture).catch(() => null);
  if (!bitmap) return picture; // the service says what is wrong with it
  const scale = Math.min(1, SIDE_MAX / Math.min(bitmap.width, bitmap.height));
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [Math.round(bitmap.width * scale), Math.round(bitmap.height * scale)];
  canvas.getContext('2d').drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return new Promise((resolve) => canvas.toBlob((blob) => resolve(blob ?? picture), 'image/jpeg', 0.9));
}
