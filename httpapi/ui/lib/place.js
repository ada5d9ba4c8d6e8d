// Where the page is: two servers below different paths of one host share a browser's storage.

const path = globalThis.location?.pathname ?? '';

/** place is the path of the page without its final slash, '' at the root of a host. */
export const place = path.slice(0, Math.max(0, path.lastIndexOf('/')));
