// html is the template tag that builds preact elements. Values in a template
// become text nodes or properties, never markup: nothing on this page parses
// what people typed as HTML.
import { Component, h, render } from '../vendor/preact.js';
import htm from '../vendor/htm.js';

export const html = htm.bind(h);
export { Component, render };
export { useEffect, useLayoutEffect, useMemo, useRef, useState } from '../vendor/hooks.js';
