// How messages look.
import { format } from '../lib/format.js';
import { Component, html, useState } from '../lib/html.js';
import { hue } from '../lib/names.js';
import { fullTimeOf, timeOf } from '../lib/times.js';
import { Avatar, Icon } from './parts.js';

const LINES = 30; // of a message that is shown in full
const LENGTH = 2_000; // characters

/**
 * Row is a row of a talk, as rows() makes them. One that is as it was is not looked at again;
 * `known` is how many members there are, since a new one may be mentioned in it.
 */
export class Row extends Component {
  shouldComponentUpdate({ row, target, known }) {
    const old = this.props;
    return row.msg !== old.row.msg || row.first !== old.row.first || row.day !== old.row.day || target !== old.target || (known !== old.known && row.msg?.content.includes('@'));
  }

  render({ row: { kind, day, msg, first }, me, members, target }) {
    if (kind === 'day') return html`<li class="day"><span>${day}</span></li>`;
    if (kind === 'new') return html`<li class="new" data-testid="new"><span>New messages</span></li>`;
    const own = msg.sender === me;
    const called = !own && msg.content.includes('@') && members.mentions(msg.content, me);
    const css = `message${own ? ' own' : ''}${first ? ' first' : ''}${called ? ' called' : ''}${target ? ' target' : ''}`;
    return html`<li class=${css} data-testid="message" data-id=${msg.id} data-sender=${msg.sender} data-mention=${called || undefined}>
      ${first && html`<${Avatar} name=${msg.sender} />`}
      <${Head} msg=${msg} first=${first} />
      <${Content} text=${msg.content} me=${me} members=${members} />
      ${own && html`<span class="fate" data-state="sent" title="Sent"><${Icon} name="check" size="14" /><span class="hidden">Sent</span></span>`}
    </li>`;
  }
}

// Head has name and time; within a group the name is for those who listen, and the
// time for those who point.
function Head({ msg, first }) {
  const time = html`<time datetime=${msg.sent_at} title=${fullTimeOf(msg.sent_at)}>${timeOf(msg.sent_at)}</time>`;
  if (!first) return html`<span class="hidden"><bdi>${msg.sender}</bdi></span>${time}`;
  return html`<div class="head"><bdi class="author" style=${{ '--hue': hue(msg.sender) }}>${msg.sender}</bdi> ${time}</div>`;
}

// Content is folded when it is very long, so that nobody floods a screen.
function Content({ text, me, members }) {
  const [open, setOpen] = useState(false);
  const long = text.length > LENGTH || text.split('\n', LINES + 1).length > LINES;
  const folded = long && !open;
  return html`<div class="text">
    <div class=${folded ? 'content folded' : 'content'} dir="auto">${parts(text, me, members)}</div>
    ${long && html`<button type="button" class="link" aria-expanded=${open ? 'true' : 'false'} onClick=${() => setOpen(!open)}>${open ? 'Show less' : 'Show all'}</button>`}
  </div>`;
}

// Link shows the beginning of a long address. The rest is there for who copies or listens.
function Link({ href, text, shown }) {
  const rest = text.slice(shown.length);
  return html`<a href=${href} title=${rest ? text : undefined} target="_blank" rel="noopener noreferrer">${rest ? html`<span class="cut">${shown}</span><span class="rest">${rest}</span>` : text}</a>`;
}

// Strings become text nodes; only what format finds becomes an element.
function parts(text, me, members) {
  return format(text, me, members).map(({ kind, text: part, href, shown }) => {
    if (kind === 'link') return html`<${Link} href=${href} text=${part} shown=${shown} />`;
    if (kind === 'block') return html`<pre><code>${part}</code></pre>`;
    if (kind === 'code') return html`<code>${part}</code>`;
    if (kind === 'me') return html`<mark class="at">${part}</mark>`;
    if (kind === 'at') return html`<span class="at">${part}</span>`;
    return part;
  });
}

/** Pending is a message that the server has not confirmed. */
export function Pending({ item, chat, first }) {
  const failed = item.state === 'failed';
  const sending = chat.connected ? 'Sending…' : 'Waiting for the connection…';
  return html`<li class=${`message own pending${first ? ' first' : ''}${failed ? ' failed' : ''}`} data-testid="pending" data-state=${item.state}>
    ${first && html`<${Avatar} name=${chat.me} />`}
    ${first ? html`<div class="head"><bdi class="author" style=${{ '--hue': hue(chat.me) }}>${chat.me}</bdi></div>` : html`<span class="hidden"><bdi>${chat.me}</bdi></span>`}
    <${Content} text=${item.content} me=${chat.me} members=${chat.members} />
    ${
      failed
        ? html`<p class="trouble"><span>Not sent. ${item.why}</span>
            <button type="button" data-testid="retry" onClick=${() => chat.outbox.retry(item.ref)}>Retry</button>
            <button type="button" data-testid="discard" onClick=${() => chat.outbox.discard(item.ref)}>Discard</button></p>`
        : html`<span class="fate" title=${sending}><${Icon} name="wait" size="14" /><span class=${chat.connected ? 'hidden' : 'why'}>${sending}</span></span>`
    }
  </li>`;
}
