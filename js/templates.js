/** This pack's templates in their order: the page shows them as the server's disk lists them. */

/** The folder that this pack lies in, by which the server names it. */
const PACK = decodeURIComponent(new URL(".", import.meta.url).pathname.split("/").at(-2));

/**
 * Have the page's list of templates hold those of this pack in the order of their numbers.
 *
 * @param api the page's own access to its server; one that lists no templates is left alone.
 */
export function orderTemplates(api, pack = PACK) {
  const list = api.getWorkflowTemplates;
  if (!list) return;
  api.getWorkflowTemplates = async function (...args) {
    const found = await list.apply(this, args);
    found?.[pack]?.sort((one, other) => parseInt(one) - parseInt(other));
    return found;
  };
}
