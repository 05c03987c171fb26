/** Rows of small pictures, one for each step. */

import { element } from "./dom.js";

/**
 * A row of small pictures, one for each step; made again only where steps have changed.
 *
 * @param choose (step) => called when one is clicked.
 */
export function showThumbnails(container, steps, current, url, choose) {
  const addresses = steps.map(url);
  if (container.dataset.steps !== addresses.join(" ")) {
    container.dataset.steps = addresses.join(" ");
    container.replaceChildren(...steps.map((step, i) => {
      const image = element("img", { src: addresses[i], alt: "", loading: "lazy", draggable: false });
      const button = element("button", { type: "button", className: "ti-thumbnail", title: `step ${step}` },
        image, element("span", { textContent: step }));
      button.dataset.step = step;
      button.addEventListener("click", () => choose(step));
      return button;
    }));
  }
  for (const button of container.children) {
    const chosen = Number(button.dataset.step) === current;
    if (chosen && button.getAttribute("aria-pressed") !== "true") {
      container.scrollLeft = button.offsetLeft - container.clientWidth / 2;
    }
    button.setAttribute("aria-pressed", String(chosen));
  }
}
