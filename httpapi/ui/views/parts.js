// Small pieces that several views draw.
import { html, useEffect, useState } from '../lib/html.js';
import { hue, initials } from '../lib/names.js';

/** Avatar is a mark with the initials of a name; `state` ("on", "away", "off") adds a dot. */
export function Avatar({ name, state, size = '' }) {
  // The letters are drawn by the style sheet: they are a picture, not text to be
  // read aloud, found or copied.
  return html`<span class=${`avatar ${size}`} style=${{ '--hue': hue(name) }} data-initials=${initials(name)} aria-hidden="true">
    ${state && html`<i class=${`dot ${state}`}></i>`}
  </span>`;
}

/** RoomMark stands for everyone. */
export function RoomMark({ size = '' }) {
  return html`<span class=${`avatar room ${size}`} aria-hidden="true"><${Icon} name="room" /></span>`;
}

/**
 * touch tells whether fingers are the main pointer. There the composer is not
 * focused by itself: a keyboard would cover what one came to read.
 */
export const touch = () => matchMedia('(pointer: coarse)').matches;

/** useMedia follows a media query. */
export function useMedia(query) {
  const [matches, set] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const media = matchMedia(query);
    const update = () => set(media.matches);
    media.addEventListener('change', update);
    return () => media.removeEventListener('change', update);
  }, [query]);
  return matches;
}

const icons = {
  menu: 'M4 7h16M4 12h16M4 17h16',
  close: 'M6 6l12 12M18 6L6 18',
  send: 'M5 12h13M12 5.5l6.5 6.5-6.5 6.5',
  down: 'M12 5v13M6 12.5l6 6 6-6',
  room: 'M5 9.5h14M5 14.5h14M10 4.5l-2 15M16 4.5l-2 15',
  search: 'M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.5 15.5L20 20',
  settings: 'M4 7h9M17 7h3M4 17h3M11 17h9M15 4.5v5M9 14.5v5',
  check: 'M5 12.5l4.5 4.5L19 7.5',
  wait: 'M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 8v4.5l3 1.5',
};

/** Icon is one of the page's few line drawings; the button around it is labelled. */
export function Icon({ name, size = 20 }) {
  return html`<svg class="icon" viewBox="0 0 24 24" width=${size} height=${size} aria-hidden="true"><path d=${icons[name]} /></svg>`;
}

/** Logo is a burrow: a hill with a door. */
export function Logo() {
  return html`<svg class="logo" viewBox="0 0 32 32" width="32" height="32" aria-hidden="true">
    <rect width="32" height="32" rx="9" /><path class="hill" d="M7 24v-5a9 9 0 0 1 18 0v5z" /><path class="door" d="M12 24v-4.5a4 4 0 0 1 8 0V24z" />
  </svg>`;
}
