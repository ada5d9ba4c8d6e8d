// How times look, in the language and zone of the browser.

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const date = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'long', year: 'numeric' });

const day = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const dayAndYear = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short', year: 'numeric' });

const valid = (when) => !Number.isNaN(when.getTime());

/** timeOf returns HH:MM in local time, '' for what is no time. */
export function timeOf(iso) {
  const when = new Date(iso);
  return valid(when) ? clock.format(when) : '';
}

/** fullTimeOf returns date and time in words, local. */
export function fullTimeOf(iso) {
  const when = new Date(iso);
  return valid(when) ? full.format(when) : '';
}

// daysAgo returns how many midnights are between two times, in the zone of the browser.
function daysAgo(when, now) {
  const midnight = (d) => new Date(d.getFullYear(), d.getMonth(), d.getDate());
  // Rounded, because a day of a clock change has 23 or 25 hours.
  return Math.round((midnight(now) - midnight(when)) / 86_400_000);
}

/** shortTimeOf returns the time of today, Yesterday, else the day, and the year if it is another one. */
export function shortTimeOf(iso, now = new Date()) {
  const when = new Date(iso);
  if (!valid(when)) return '';
  const days = daysAgo(when, now);
  if (days === 0) return clock.format(when);
  if (days === 1) return 'Yesterday';
  return (when.getFullYear() === now.getFullYear() ? day : dayAndYear).format(when);
}

/** dayOf names the local day of a time as seen now: Today, Yesterday, or a date. */
export function dayOf(iso, now = new Date()) {
  const when = new Date(iso);
  if (!valid(when)) return '';
  const days = daysAgo(when, now);
  if (days === 0) return 'Today';
  if (days === 1) return 'Yesterday';
  return when.getFullYear() === now.getFullYear() ? weekday.format(when) : date.format(when);
}

const LOOK = 20_000; // ms; the timers of a hidden tab run once a minute

/**
 * eachDay calls changed when another day has begun, within a minute: at midnight, after sleep, or
 * in another time zone. It returns a function that ends this.
 */
export function eachDay(changed) {
  const today = () => {
    const now = new Date();
    return `${now.toDateString()} ${now.getTimezoneOffset()}`;
  };
  let day = today();
  // No timer for midnight itself: it would be late after sleep or a change of the clock.
  const timer = setInterval(() => {
    if (today() === day) return;
    day = today();
    changed();
  }, LOOK);
  return () => clearInterval(timer);
}
