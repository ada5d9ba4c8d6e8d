// Fetching what was said before: pages of the archive, and what was missed.

const PAGE = 50; // messages asked for at a time
const MISSED_PAGE = 100;
const AGAIN = 5_000; // ms before a gap is tried again
const GAP_PAGES = 20; // pages fetched to close a gap before giving up on it

/** loadOlder fetches the page before the oldest message of a talk of chat. */
export async function loadOlder(chat, key) {
  const talk = chat.talks.get(key);
  if (!talk || talk.loading || talk.hasMore === false) return;
  talk.loading = true;
  talk.trouble = '';
  chat.changed();
  try {
    // A private talk is asked for from its newest message the first time: live
    // messages may have come in before it was opened, with a hole before them.
    const before = key !== '' && talk.hasMore === null ? '' : (talk.messages[0]?.id ?? '');
    const page = await chat.history({ before, talk: key, limit: PAGE });
    if (chat.stopped) return;
    talk.hasMore = Boolean(page.has_more);
    chat.take(key, page.messages ?? [], { live: false });
  } catch (err) {
    talk.trouble = err.message;
  } finally {
    talk.loading = false;
    chat.changed();
  }
}

/**
 * fillGap fetches backwards from `before` ('' is the newest) until it meets `after`,
 * the last message known from before the connection broke (null: there was none).
 */
export async function fillGap(chat, key, after, before) {
  const talk = chat.talks.get(key);
  let oldest = before;
  try {
    for (let i = 0; i < GAP_PAGES; i++) {
      const page = await chat.history({ before: oldest, talk: key, limit: MISSED_PAGE });
      if (chat.stopped) return;
      const messages = page.messages ?? [];
      chat.take(key, messages, { live: true });
      if (messages.length === 0 || !page.has_more) return;
      oldest = messages[0].id;
      if (after === null) return; // a talk that was empty: older pages on demand
      if (oldest <= after) return;
    }
  } catch (err) {
    if (chat.stopped) return;
    chat.say('Some messages that you missed could not be loaded. Scroll up to try again.');
    if (key === '' && oldest === '') {
      // Nothing of the room has come since; what comes would follow a hole.
      setTimeout(() => !chat.stopped && fillGap(chat, key, after, ''), AGAIN);
      return;
    }
    if (key !== '') {
      // Nothing is let go here: the archive may not keep private talks.
      talk.hasMore = null;
      talk.trouble = err.message;
      return;
    }
  }
  // Too far, or it failed. A list with a hole would be a lie: what lies before
  // the hole goes, and comes back with the rest when one scrolls up.
  talk.messages = talk.messages.filter((m) => m.id >= oldest);
  talk.hasMore = true;
  chat.changed();
}
