import assert from "node:assert/strict";
import { test } from "node:test";
import { arranged, facts, folders, matches } from "../../js/cards.js";

const card = { file: "people/Anna.pt", folder: "people", name: "Anna", family: "Stable Diffusion 1", negative: false,
  vectors: 2, changed: 1, error: "" };

test("every word of a search counts, in any order and case", () => {
  assert.ok(matches(card, ""));
  assert.ok(matches(card, "diffusion ANNA"));
  assert.ok(matches(card, "positive people"));
  assert.ok(!matches(card, "anna negative"));
});

test("facts in words", () => {
  assert.equal(facts(card), "Stable Diffusion 1 · 2 vectors");
  assert.equal(facts({ ...card, vectors: 1 }), "Stable Diffusion 1 · 1 vector");
  assert.equal(facts({ ...card, error: "“x” is damaged." }), "“x” is damaged.");
});

test("the newest first or by name, what cannot be read last", () => {
  const cards = [
    { ...card, name: "word10", changed: 3 }, { ...card, name: "broken", changed: 9, error: "It is damaged." },
    { ...card, name: "word9", changed: 2 }, { ...card, name: "Anna", changed: 1 },
  ];
  const names = (options) => arranged(cards, options).map(({ name }) => name);
  assert.deepEqual(names(), ["word10", "word9", "Anna", "broken"]);
  assert.deepEqual(names({ order: "name" }), ["Anna", "word9", "word10", "broken"]);
});

test("a folder holds what is in the folders in it, but not in those that only begin like it", () => {
  const cards = ["", "people", "people/old", "peoples"].map((folder) => ({ ...card, folder, name: folder }));
  assert.deepEqual(folders(cards), ["people", "people/old", "peoples"]);
  assert.deepEqual(folders([{ ...card, folder: "a/b" }]), ["a", "a/b"]);
  const names = arranged(cards, { folder: "people", order: "name" }).map(({ name }) => name);
  assert.deepEqual(names, ["people", "people/old"]);
});
