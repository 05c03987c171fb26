/** What the sentence of an error is about, and what the server's own errors say in a sentence. */

/**
 * The input that a sentence is about: it begins with it, as “resolution is 100: …” or “The
 * learning rate …” do; or it quotes its value; or it says what to do about it.
 *
 * @param names of the inputs of a node.
 * @param values of some of them, by name.
 */
export function accused(sentence, names, values = {}) {
  const said = sentence.toLowerCase();
  const begins = names.find((name) => new RegExp(`^(the |none of the )?${mention(name)}`).test(said));
  if (begins) return begins;
  const quotes = [...sentence.matchAll(/“([^”]*)”/g)].map(([, quoted]) => quoted);
  const quoted = names.find((name) => values[name] && quotes.includes(String(values[name])));
  if (quoted) return quoted;
  const advice = said.split(": ").slice(1).join(": ");
  const places = named(advice, names).map((name) => [advice.search(new RegExp(`\\b${mention(name)}`)), name]);
  return places.sort(([one], [other]) => one - other)[0]?.[1];
}

/** All inputs that a sentence names. */
export function named(sentence, names) {
  const said = sentence.toLowerCase();
  return names.filter((name) => new RegExp(`\\b${mention(name)}`).test(said));
}

/** How sentences write an input: in words, the images as pictures, and never a text encoder. */
function mention(name) {
  const words = name === "images" ? "(images|pictures?)" : name === "masks" ? "masks?" : name.replaceAll("_", "[_ ]");
  return `${words}\\b(?! encoder)`;
}

/** What a node has failed with, in its own sentence: the host puts a word before that of a blocked input. */
export function failureOf({ exception_message: message }) {
  return message.trim().replace(/^Execution Blocked: /, "");
}

/** An error that the server has found in a graph before it ran, in a sentence that says what to do. */
export function sentenceOf({ type, message, details, extra_info: about = {} }) {
  const name = about.input_name;
  const value = String(about.received_value ?? "").slice(0, 100);
  const limits = about.input_config?.[1] ?? {};
  switch (type) {
    case "custom_validation_failed": return details.replace(/^\w+ - /, "");
    case "required_input_missing": return `${name} is missing: connect it.`;
    case "value_smaller_than_min": return `${name} is ${value}: it must be at least ${limits.min}.`;
    case "value_bigger_than_max": return `${name} is ${value}: it must be at most ${limits.max}.`;
    case "value_not_in_list": return `${name} is “${value}”, which is not in the list: choose another, or press R to refresh the list.`;
    case "invalid_input_type": return `${name} is “${value}”, which is not valid: enter another value.`;
    case "return_type_mismatch": return `${name} does not take ${about.received_type}: connect something else.`;
    default: return details ? `${message}: ${details}` : message;
  }
}
