/** Rated pictures as the page knows them: what is rated is shown at once, and the server follows. */

export const WAITING = "", LIKED = "liked", DISLIKED = "disliked", SKIPPED = "skipped";

/** A list of which nothing is known yet. */
export const UNKNOWN = { known: false, ratings: [], pairs: 0, wanted: 0 };

/** The pictures that wait for their rating, those that came first before the others. */
export const waiting = (list) => list.ratings.filter(({ rating }) => rating === WAITING);

/** The pictures that are rated, in the order in which that was done. */
export const rated = (list) => list.ratings.filter(({ rating }) => rating !== WAITING);

/** A list in which a picture has another rating; as on the server it is now the last one, if that is new. */
export function withRating(list, key, rating) {
  const one = list.ratings.find((each) => each.key === key);
  if (!one || one.rating === rating) return list;
  return { ...list, ratings: [...list.ratings.filter((each) => each !== one), { ...one, rating }] };
}

/** How far one is, in one line. */
export function tally(list) {
  const { pairs, wanted } = list;
  if (!list.known) return "";
  const waits = waiting(list).length;
  const there = pairs < wanted
    ? `${pairs} of ${wanted} pairs`
    : `${pairs} ${pairs === 1 ? "pair" : "pairs"}: enough to train`;
  return `${there}; ${waits === 1 ? "1 picture waits" : `${waits || "no"} pictures wait`}`;
}

const PATH = "/textual_inversion/ratings";

/** Where a picture is. */
export function picturePath(name, key) {
  return `${PATH}/picture?name=${encodeURIComponent(name)}&key=${encodeURIComponent(key)}`;
}

/**
 * Keeps lists of ratings up to date, by their names. Listeners are called with a list whenever it
 * has changed.
 *
 * @param ask (path) => promise of the answer's JSON; throws a sentence where there is none.
 * @param post (path, content, options) => the same of what is sent; the options are those of `fetch`.
 */
export class RatingLists {
  constructor(ask, post) {
    this.ask = ask;
    this.post = post;
    this.books = new Map();
  }

  /** Hear of a list; returns a function that ends it. */
  listen(name, listener) {
    const book = this.#book(name);
    book.listeners.add(listener);
    listener(shown(book));
    return () => book.listeners.delete(listener);
  }

  /** Ask for a list anew. */
  refresh(name) {
    return this.#inTurn(name, () => this.ask(`${PATH}?name=${encodeURIComponent(name)}`));
  }

  /** Rate a picture. It is shown as rated from now on, unless the server refuses. */
  async rate(name, key, rating) {
    const book = this.#book(name);
    const change = { key, rating };
    book.pending.push(change);
    tell(book);
    try {
      await this.#inTurn(name, () => this.post(PATH, { name, ratings: [change] }), change);
    } catch (error) {
      // The list may be out of date.
      this.refresh(name).catch(() => {});
      throw error;
    }
  }

  /** Before the page goes: send what still waits for its turn, at once and in its order. */
  flush() {
    for (const [name, { pending }] of this.books) {
      if (pending.length) this.post(PATH, { name, ratings: pending }, { keepalive: true }).catch(() => {});
    }
  }

  #book(name) {
    if (!this.books.has(name)) {
      this.books.set(name, { list: UNKNOWN, pending: [], listeners: new Set(), turn: Promise.resolve() });
    }
    return this.books.get(name);
  }

  /** One question after the other: what is rated keeps its order, and no old answer comes last. */
  #inTurn(name, question, change) {
    const book = this.#book(name);
    const answered = book.turn.then(question);
    const settle = () => {
      book.pending = book.pending.filter((one) => one !== change);
      tell(book);
    };
    const done = answered.then((list) => {
      book.list = { ...list, known: true };
      settle();
    }, (error) => {
      settle();
      throw error;
    });
    book.turn = done.catch(() => {});
    return done;
  }
}

const shown = ({ list, pending }) =>
  pending.reduce((changed, { key, rating }) => withRating(changed, key, rating), list);

function tell(book) {
  for (const listener of book.listeners) listener(shown(book));
}
