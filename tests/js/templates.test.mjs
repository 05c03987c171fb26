import assert from "node:assert/strict";
import { test } from "node:test";
import { orderTemplates } from "../../js/templates.js";

test("this pack's templates come in order, those of others as they were", async () => {
  const api = { getWorkflowTemplates: async () => ({ ours: ["2 b", "10 c", "1 a"], theirs: ["z", "a"] }) };
  orderTemplates(api, "ours");
  assert.deepEqual(await api.getWorkflowTemplates(), { ours: ["1 a", "2 b", "10 c"], theirs: ["z", "a"] });
});

test("a page without such a list, or without templates of this pack, is left alone", async () => {
  const empty = {};
  orderTemplates(empty, "ours");
  assert.deepEqual(empty, {});
  const others = { getWorkflowTemplates: async () => ({ theirs: ["z"] }) };
  orderTemplates(others, "ours");
  assert.deepEqual(await others.getWorkflowTemplates(), { theirs: ["z"] });
});
