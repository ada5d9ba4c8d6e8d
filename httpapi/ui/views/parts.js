// Small pieces that several views draw.
import { html } from '../lib/html.js';
import { hue, initials } from '../lib/names.js';

/** Avatar is a round mark with the initials of a name; `online` adds the dot. */
export function Avatar({ name, online, small }) {
  // The letters are drawn by the style sheet: they are a picture, not text to be
  // read aloud, found or copied.
  return html`<span class=${`avatar ${small ? 'small' : ''}`} style=${{ '--hue': hue(name) }} data-initials=${initials(name)} aria-hidden="true">
    ${online !== undefined && html`<i class=${online ? 'dot on' : 'dot'}></i>`}
  </span>`;
}

/**
 * touch tells whether fingers are the main pointer. There the composer is not
 * focused by itself: a keyboard would cover what one came to read.
 */
export const touch = () => matchMedia('(pointer: coarse)').matches;

const icons = {
  menu: 'M4 7h16M4 12h16M4 17h16',
  close: 'M6 6l12 12M18 6L6 18',
  send: 'M5 12h13M12 5.5l6.5 6.5-6.5 6.5',
  down: 'M12 5v13M6 12.5l6 6 6-6',
  room: 'M5 9.5h14M5 14.5h14M10 4.5l-2 15M16 4.5l-2 15',
};

/** Icon is one of the page's few line drawings; the button around it is labelled. */
export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 24 24" width="20" height="20" aria-hidden="true"><path d=${icons[name]} /></svg>`;
}

/** Logo is a burrow: a hill with a door. */
export function Logo() {
  return html`<svg class="logo" viewBox="0 0 32 32" width="32" height="32" aria-hidden="true">
    <rect width="32" height="32" rx="9" /><path class="hill" d="M7 24v-5a9 9 0 0 1 18 0v5z" /><path class="door" d="M12 24v-4.5a4 4 0 0 1 8 0V24z" />
  </svg>`;
}
