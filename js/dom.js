/** Making elements. Text is always set as text, so that none of it can become HTML. */

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  Object.assign(made, properties);
  made.append(...children);
  return made;
}

/** Load this pack's style sheet, once. */
export function addStyles() {
  const href = new URL("./style.css", import.meta.url).href;
  if (document.querySelector(`link[href="${href}"]`)) return;
  document.head.append(element("link", { rel: "stylesheet", href }));
}
