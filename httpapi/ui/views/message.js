// How messages look.
import { html } from '../lib/html.js';
import { hue } from '../lib/names.js';
import { links } from '../lib/text.js';
import { fullTimeOf, timeOf } from '../lib/times.js';
import { Avatar } from './parts.js';

/**
 * Row is called rather than mounted: a row never changes once it is made, and its
 * element is kept as long as the list of messages is the same.
 */
export function Row({ kind, key, day, msg, first }, me) {
  if (kind === 'day') return html`<li key=${key} class="day"><span>${day}</span></li>`;
  if (kind === 'new') return html`<li key=${key} class="new"><span>New</span></li>`;
  const own = msg.sender === me;
  const css = `message${own ? ' own' : ''}${first ? ' first' : ''}`;
  return html`<li key=${key} class=${css} data-testid="message" data-id=${msg.id} data-sender=${msg.sender}>
    ${!own && first && html`<${Avatar} small name=${msg.sender} />`}
    <div class="bubble">
      <span class=${first && !own ? 'author' : 'hidden'} style=${{ '--hue': hue(msg.sender) }}><bdi>${own ? 'You' : msg.sender}</bdi></span>
      <span class="content" dir="auto">${linked(msg.content)}</span>
      <time datetime=${msg.sent_at} title=${fullTimeOf(msg.sent_at)}>${timeOf(msg.sent_at)}</time>
    </div>
  </li>`;
}

// Strings become text nodes; only an address becomes an element.
function linked(content) {
  return links(content).map((part) =>
    typeof part === 'string' ? part : html`<a href=${part.href} target="_blank" rel="noopener noreferrer">${part.text}</a>`,
  );
}

/** Pending is a message that the server has not confirmed. */
export function Pending({ item, chat }) {
  const failed = item.state === 'failed';
  return html`<li class=${`message own first pending${failed ? ' failed' : ''}`} data-testid="pending" data-state=${item.state}>
    <div class="bubble"><span class="hidden">You</span><span class="content" dir="auto">${linked(item.content)}</span></div>
    <p class="fate">${
      failed
        ? html`<span>Not sent – ${item.why}</span>
            <button type="button" data-testid="retry" onClick=${() => chat.outbox.retry(item.ref)}>Retry</button>
            <button type="button" data-testid="discard" onClick=${() => chat.outbox.discard(item.ref)}>Discard</button>`
        : chat.connected
          ? 'Sending…'
          : 'Waiting for the connection…'
    }</p>
  </li>`;
}
