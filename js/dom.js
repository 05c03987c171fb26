/** Making elements. Text is always set as text, so that none of it can become HTML. */

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  Object.assign(made, properties);
  made.append(...children);
  return made;
}

/** Put a text into the clipboard. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyFromField(text); // Over plain HTTP, as from another computer, pages have no clipboard.
  }
}

function copyFromField(text) {
  const focused = document.activeElement;
  const field = element("textarea", { value: text, className: "ti-copied" });
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
  focused?.focus();
}

/** Load this pack's style sheet, once. */
export function addStyles() {
  const href = new URL("./style.css", import.meta.url).href;
  if (document.querySelector(`link[href="${href}"]`)) return;
  document.head.append(element("link", { rel: "stylesheet", href }));
}
