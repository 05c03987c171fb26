import assert from "node:assert/strict";
import { test } from "node:test";
import { accused, failureOf, named, sentenceOf } from "../../js/errors.js";

const NAMES = [
  "model", "vae", "images", "name", "steps", "learning_rate", "overwrite", "templates", "keep", "text", "embedding",
];

test("the input with which a sentence begins", () => {
  for (const [sentence, name] of [
    ["keep is “best” but evaluations is 0: the best is not known then.", "keep"],
    ["The learning rate “fast” cannot be read: give one number, or steps.", "learning_rate"],
    ["None of the templates has a place for the word.", "templates"],
    ["The VAE gives latents of 16 channels, but the model takes 4.", "vae"],
    ["The model's weights are quantised.", "model"],
    ["The embedding “text” does not fit this model.", "embedding"],
  ]) assert.equal(accused(sentence, NAMES), name);
});

test("or the one whose value it quotes, or that it says to change", () => {
  for (const [sentence, name] of [
    ["“my mug” cannot be the name of an embedding: use letters, digits, “-” and “_”.", "text"],
    ["An embedding “mug.safetensors” already exists: choose another name, turn on overwrite.", "name"],
    ["There are no pictures to learn from: connect 3 to 10 of them.", undefined],
    ["Picture 3 has the shape [4]: pictures must be [height, width, 3].", "images"],
    ["There is no word: connect an embedding, or choose a file.", "embedding"],
    ["The GPU's memory is too small for this training: lower steps.", "steps"],
  ]) assert.equal(accused(sentence, NAMES, { text: "my mug", name: "" }), name, sentence);
});

test("every input that a sentence names may be the cause", () => {
  const sentence = "An embedding “mug” already exists: choose another name, or turn on overwrite.";
  assert.deepEqual(named(sentence, NAMES), ["name", "overwrite", "embedding"]);
});

test("what the server refuses is said in a sentence", () => {
  const error = (type, extra_info, details = "") => sentenceOf({ type, message: "Failed", details, extra_info });
  assert.equal(error("custom_validation_failed", {}, "name - “a b” cannot be it."), "“a b” cannot be it.");
  assert.equal(error("required_input_missing", { input_name: "clip" }), "clip is missing: connect it.");
  const low = { input_name: "steps", received_value: 0, input_config: ["INT", { min: 1 }] };
  assert.equal(error("value_smaller_than_min", low), "steps is 0: it must be at least 1.");
  assert.match(error("value_not_in_list", { input_name: "file", received_value: "x.pt" }), /^file is “x.pt”/);
  assert.equal(error("new_in_some_version", {}, "why"), "Failed: why");
  assert.equal(sentenceOf({ type: "other", message: "Failed", details: "" }), "Failed");
});

test("what a node fails with is said without the host's own words before it", () => {
  const failure = (message) => failureOf({ exception_message: message });
  assert.equal(failure("name is empty: give one.\n"), "name is empty: give one.");
  assert.equal(failure("Execution Blocked: There are no disliked pictures."), "There are no disliked pictures.");
});

test("a sentence about something else accuses nothing", () => {
  for (const sentence of [
    "The text encoder T5 does not support embeddings.",
    "There are 5 pictures but 3 captions.",
    "The stepsister",
  ]) assert.equal(accused(sentence, NAMES), undefined);
});
