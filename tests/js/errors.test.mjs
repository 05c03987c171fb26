import assert from "node:assert/strict";
import { test } from "node:test";
import { accused } from "../../js/errors.js";

const NAMES = ["model", "vae", "steps", "learning_rate", "templates", "keep", "text", "embedding"];

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

test("a sentence about something else accuses nothing", () => {
  for (const sentence of [
    "The text encoder T5 does not support embeddings.",
    "There are 5 pictures but 3 captions.",
    "The GPU's memory is too small for this training: lower steps.",
    "The stepsister",
  ]) assert.equal(accused(sentence, NAMES), undefined);
});
