// When a view is made again. The one place to change once the server tells of news by itself (SSE).

const SECONDS = 5;

/** Call `refresh` now and every 5 s while the page is seen, never twice at a time. Returns what ends it. */
export function follow(refresh) {
  let ended = false;
  let timer = null;
  let busy = false;
  async function turn() {
    if (ended || busy || document.hidden) return;
    busy = true;
    clearTimeout(timer);
    try {
      await refresh();
    } finally {
      busy = false;
      if (!ended) timer = setTimeout(turn, SECONDS * 1000);
    }
  }
  document.addEventListener("visibilitychange", turn);
  turn();
  return () => {
    ended = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", turn);
  };
}
