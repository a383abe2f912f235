/** Which rules of an allow-list speak of a caller: for showing them, never for deciding; pure. */

/** Whether `pattern` of a rule's `from` names `caller`, both short or in full: `*` is one segment, a last `**` any. */
export function speaksOf(pattern, caller) {
  if (pattern === caller) return true;
  const wanted = pattern.split("/");
  const found = caller.split("/");
  const open = wanted[wanted.length - 1] === "**";
  const fixed = open ? wanted.slice(0, -1) : wanted;
  if (open ? found.length < fixed.length : found.length !== fixed.length) return false;
  return fixed.every((part, index) => part === found[index] || (part === "*" && found[index] !== ""));
}

/** The rules, in file order, whose `from` names the caller. */
export function rulesFor(rules, caller) {
  return rules.filter(({ from }) => [from ?? []].flat().some((pattern) => speaksOf(pattern, caller)));
}
