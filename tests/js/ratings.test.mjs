import assert from "node:assert/strict";
import { test } from "node:test";
import { picturePath, rated, RatingLists, tally, UNKNOWN, waiting, withRating } from "../../js/ratings.js";

const list = (marks, more = {}) => ({
  known: true, pairs: 0, wanted: 12,
  ratings: Object.entries(marks).map(([key, rating]) => ({ key, rating, prompt: "a mug", seed: 1, date: "" })), ...more,
});
const keys = (ratings) => ratings.map(({ key }) => key);
const later = () => new Promise((resolve) => setTimeout(resolve));

/** A server of one list, which answers in its own time and can refuse. */
function server(marks) {
  const ratings = list(marks).ratings, asked = [], gates = [];
  let refusal = null;
  const answer = () => ({ name: "taste", ratings: structuredClone(ratings), pairs: 1, wanted: 12 });
  const held = async (act) => {
    await new Promise((resolve) => gates.push(resolve));
    if (refusal) throw new Error(refusal);
    return act();
  };
  return {
    asked, ratings,
    refuse: (sentence) => (refusal = sentence),
    async answer() {
      await later();
      gates.shift()();
      await later();
    },
    lists: new RatingLists(
      (path) => (asked.push(path), held(answer)),
      (path, { ratings: [{ key, rating }] }) => (asked.push([path, key, rating]), held(() => {
        ratings.push(...ratings.splice(ratings.findIndex((one) => one.key === key), 1));
        ratings.at(-1).rating = rating;
        return answer();
      })),
    ),
  };
}

test("what waits and what is rated, the last one last", () => {
  const known = list({ a: "", b: "liked", c: "", d: "skipped" });
  assert.deepEqual(keys(waiting(known)), ["a", "c"]);
  assert.deepEqual(keys(rated(known)), ["b", "d"]);
  assert.deepEqual(keys(rated(withRating(known, "b", "disliked"))), ["d", "b"]);
  for (const key of ["gone", "b"]) assert.equal(withRating(known, key, "liked"), known);
  assert.equal(known.ratings[1].rating, "liked");
});

test("one line says how many pairs there are", () => {
  assert.equal(tally(UNKNOWN), "");
  assert.equal(tally(list({ a: "", b: "" }, { pairs: 7 })), "7 of 12 pairs; 2 pictures wait");
  assert.equal(tally(list({ a: "" }, { pairs: 12 })), "12 pairs: enough to train; 1 picture waits");
  assert.equal(tally(list({}, { pairs: 1, wanted: 1 })), "1 pair: enough to train; no pictures wait");
});

test("a rating is seen at once, by all who show the list", async () => {
  const { lists, answer, ratings } = server({ a: "", b: "" });
  const seen = [[], []];
  const stops = seen.map((states) => lists.listen("taste", (one) => states.push(keys(waiting(one)).join(""))));
  lists.refresh("taste");
  await answer();
  lists.rate("taste", "a", "liked");
  lists.rate("taste", "b", "disliked");
  for (const states of seen) assert.deepEqual(states, ["", "ab", "b", ""]);
  // The server hears of them one after the other, in this order.
  assert.deepEqual(ratings.map(({ rating }) => rating), ["", ""]);
  await answer();
  assert.deepEqual(ratings.map(({ rating }) => rating), ["", "liked"]);
  await answer();
  assert.deepEqual(ratings.map(({ rating }) => rating), ["liked", "disliked"]);
  for (const states of seen) assert.equal(states.at(-1), "");
  stops[1]();
  const before = seen[1].length;
  lists.rate("taste", "a", "");
  assert.equal(seen[0].at(-1), "a");
  assert.equal(seen[1].length, before);
});

test("what the server refuses is taken back, and what came after it stays", async () => {
  const { lists, answer, refuse } = server({ a: "", b: "" });
  let shown;
  lists.listen("taste", (one) => (shown = one));
  lists.refresh("taste");
  await answer();
  const first = lists.rate("taste", "a", "liked"), second = lists.rate("taste", "b", "liked");
  refuse("The disk is full.");
  const refused = assert.rejects(first, /^Error: The disk is full\.$/);
  await answer();
  await refused;
  assert.deepEqual([keys(waiting(shown)), keys(rated(shown))], [["a"], ["b"]]);
  refuse(null);
  await answer();
  await second;
  // And it was asked what there is.
  await answer();
  assert.deepEqual([keys(waiting(shown)), keys(rated(shown))], [["a"], ["b"]]);
});

test("a list that was asked for before does not undo a rating", async () => {
  const { lists, answer } = server({ a: "" });
  let shown;
  lists.listen("taste", (one) => (shown = one));
  lists.refresh("taste");
  lists.refresh("taste");
  await answer();
  lists.rate("taste", "a", "liked");
  await answer();
  assert.deepEqual(keys(waiting(shown)), []);
  await answer();
  assert.deepEqual(keys(rated(shown)), ["a"]);
});

test("names and keys cannot leave their place in an address", async () => {
  const { lists, asked } = server({});
  assert.equal(picturePath("a&b/..", "#?"), "/textual_inversion/ratings/picture?name=a%26b%2F..&key=%23%3F");
  lists.refresh("a&b");
  await later();
  assert.deepEqual(asked, ["/textual_inversion/ratings?name=a%26b"]);
});

test("what still waits for its turn is sent before the page goes", async () => {
  const { ratings } = list({ a: "", b: "" }), sent = [];
  const never = new Promise(() => {});
  const lists = new RatingLists(async () => ({ ratings, pairs: 0, wanted: 12 }),
    (path, said, options) => (sent.push([structuredClone(said), Boolean(options?.keepalive)]), never));
  await lists.refresh("taste");
  lists.rate("taste", "a", "liked");
  lists.rate("taste", "b", "liked");
  lists.rate("taste", "b", "disliked");
  await later();
  const first = { key: "a", rating: "liked" };
  assert.deepEqual(sent, [[{ name: "taste", ratings: [first] }, false]]);
  lists.flush();
  // In one request: several could change their order on the way.
  const others = ["liked", "disliked"].map((rating) => ({ key: "b", rating }));
  assert.deepEqual(sent.slice(1), [[{ name: "taste", ratings: [first, ...others] }, true]]);
});
