/** Rows of small pictures. */

import { element } from "./dom.js";

/**
 * A row of small pictures; made again only where they have changed.
 *
 * @param pictures [{ key, address, title, label }], the label a text or an element.
 * @param chosen the key of the one that is marked.
 * @param choose (key) => called when one is clicked.
 */
export function showThumbnails(container, pictures, chosen, choose) {
  const there = new Map([...container.children].map((button) => [button.dataset.made, button]));
  const buttons = pictures.map((picture) => {
    const made = `${picture.title} ${picture.address}`;
    return there.get(made) ?? thumbnail(picture, made);
  });
  // Moved only where it has to be: what is taken out loses the focus.
  if (buttons.length !== there.size || buttons.some((button, i) => button !== container.children[i])) {
    container.replaceChildren(...buttons);
  }
  pictures.forEach(({ key }, i) => {
    const button = buttons[i];
    button.onclick = () => choose(key);
    if (key === chosen && button.getAttribute("aria-pressed") !== "true") {
      container.scrollLeft = button.offsetLeft - container.clientWidth / 2;
    }
    button.setAttribute("aria-pressed", String(key === chosen));
  });
}

/** What there is to say of the pictures of steps. */
export const ofSteps = (steps, url) =>
  steps.map((step) => ({ key: step, address: url(step), title: `step ${step}`, label: step }));

function thumbnail({ key, address, title, label }, made) {
  const image = element("img", { src: address, alt: "", loading: "lazy", draggable: false });
  const button = element("button", { type: "button", className: "ti-thumbnail", title }, image, element("span", {}, label));
  Object.assign(button.dataset, { key, made });
  return button;
}
