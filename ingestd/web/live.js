// When a view is made again, and what the server tells it in between (server-sent events).

const SECONDS = 5;
/** While the server tells of new readings by itself, all else is asked for less often. */
const SECONDS_IF_TOLD = 15;
/** After a stream was refused, as there are too many. */
const REFUSED_SECONDS = 30;
const MAX_DEVICES = 100;
const MAX_ADDRESS = 7000;

/**
 * Call `refresh(watch)` now and every 5 s while the page is seen, never twice at a time. Returns what ends it. With
 * `watch(kind, ids, show)` a view is told of newer readings of these devices: `show(readings)`.
 */
export function follow(refresh) {
  const stream = newStream();
  let ended = false;
  let timer = null;
  let busy = false;
  async function turn() {
    if (ended || busy || document.hidden) return;
    busy = true;
    clearTimeout(timer);
    try {
      await refresh(stream.watch);
    } finally {
      busy = false;
      if (!ended) timer = setTimeout(turn, (stream.isOpen() ? SECONDS_IF_TOLD : SECONDS) * 1000);
    }
  }
  function onVisibility() {
    stream.connect();
    turn();
  }
  document.addEventListener("visibilitychange", onVisibility);
  turn();
  return () => {
    ended = true;
    clearTimeout(timer);
    stream.end();
    document.removeEventListener("visibilitychange", onVisibility);
  };
}

/** The stream of one view. It is open while the page is seen and there are devices to watch. */
function newStream() {
  let source = null;
  let wanted = null;
  let again = null;
  let ended = false;
  const waiting = [];

  function connect() {
    clearTimeout(again);
    source?.close();
    source = null;
    if (ended || wanted === null || document.hidden) return;
    const opened = new EventSource(wanted.address);
    source = opened;
    opened.addEventListener(wanted.kind, (event) => {
      if (waiting.push(JSON.parse(event.data)) === 1) requestAnimationFrame(deliver);
    });
    opened.onerror = () => { // the browser connects again by itself, unless the server has refused
      if (opened.readyState === EventSource.CLOSED) again = setTimeout(connect, REFUSED_SECONDS * 1000);
    };
  }

  function deliver() {
    const readings = waiting.splice(0);
    if (!ended) wanted?.show(readings);
  }

  return {
    connect,
    isOpen: () => source?.readyState === EventSource.OPEN,
    watch(kind, ids, show) {
      if (ended) return; // the answer to a question of a view that is gone
      const address = ids.length ? addressOf(kind, ids) : null;
      const isSame = address === (wanted?.address ?? null);
      wanted = address && { kind, address, show };
      if (!isSame) connect();
    },
    end() {
      ended = true;
      connect();
    },
  };
}

/** Of many devices, all of their kind are watched. */
function addressOf(kind, ids) {
  const all = `/v1/stream?kind=${kind}`;
  const named = `${all}&${new URLSearchParams(ids.toSorted().map((id) => ["device", id]))}`;
  return ids.length > MAX_DEVICES || named.length > MAX_ADDRESS ? all : named;
}

export const isNewer = (reading, than) => !than || Date.parse(reading.timestamp) > Date.parse(than.timestamp);
