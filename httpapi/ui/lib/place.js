// Where the page is: two servers below different paths of one host share a browser's storage.

/** place is the path of the page without its final slash, '' at the root of a host. */
export const place = (globalThis.location?.pathname ?? '').replace(/[^/]*$/, '').replace(/\/$/, '');
