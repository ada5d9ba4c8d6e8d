// What is typed, pasted and dropped.

/**
 * enterSends reports whether a key sends the message. On a touch keyboard Enter is a new line, since it
 * has no Shift+Enter; Ctrl+Enter and Cmd+Enter always send.
 */
export function enterSends(e, touch) {
  // While an input method composes a character, Enter belongs to it.
  if (e.key !== 'Enter' || e.isComposing || e.keyCode === 229) return false;
  return e.ctrlKey || e.metaKey || (!touch && !e.shiftKey && !e.altKey);
}

/** commandOf returns the command at the start of a text, "/help", or ''. A path is no command. */
export const commandOf = (text) => /^\/\p{L}[^\s/]{0,31}(?!\S)/u.exec(text)?.[0] ?? '';

/**
 * holdsFiles reports whether files are pasted, not a text: programs also offer texts as pictures, and
 * file managers the names of files as a text.
 */
export function holdsFiles(transfer) {
  const files = [...(transfer?.files ?? [])];
  const text = transfer?.getData('text/plain') ?? '';
  return files.length > 0 && (text === '' || files.every((file) => text.includes(file.name)));
}

/**
 * catchDrops keeps the browser from leaving the page when a file or an address is dropped; refused() is
 * called for files. Texts can still be dropped where one writes.
 */
export function catchDrops(page, refused) {
  const files = (e) => [...(e.dataTransfer?.types ?? [])].includes('Files');
  const caught = (e) => files(e) || !e.target?.closest?.('input, textarea');
  page.addEventListener('dragover', (e) => {
    if (!caught(e)) return;
    e.preventDefault();
    if (e.dataTransfer) e.dataTransfer.dropEffect = files(e) ? 'copy' : 'none'; // with none there is no drop to answer
  });
  page.addEventListener('drop', (e) => {
    if (!caught(e)) return;
    e.preventDefault();
    if (files(e)) refused();
  });
}
