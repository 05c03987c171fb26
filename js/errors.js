/** What the sentence of an error is about. */

/**
 * The input with which a sentence begins, as in “resolution is 100: …” or “The learning rate …”.
 *
 * @param names of the inputs of a node.
 */
export function accused(sentence, names) {
  const said = sentence.toLowerCase();
  return names.find((name) =>
    new RegExp(`^(the |none of the )?${name.replaceAll("_", "[_ ]")}\\b(?! encoder)`).test(said));
}
