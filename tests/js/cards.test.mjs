import assert from "node:assert/strict";
import { test } from "node:test";
import { facts, matches } from "../../js/cards.js";

const card = { file: "people/Anna.pt", family: "Stable Diffusion 1", negative: false, vectors: 2, error: "" };

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
