/** Making elements. Text from the mesh only ever becomes text: nothing here reads markup. */

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element; `on` holds listeners, `dataset` data attributes, null attributes are left out. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** Put these children in the place of all others. */
export function replace(parent, ...children) {
  parent.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
}

function filled(element, { on = {}, dataset = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
  Object.assign(element.dataset, dataset);
  replace(element, ...children);
  return element;
}

/** Set the text of an element, without touching the page when it is there already. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set an attribute if it is another. */
export function put(element, name, value) {
  const text = String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

/** A choice of one: a group of buttons, of which `current()` is pressed. Returns { element, refresh }. */
export function choice(label, options, current, choose) {
  const buttons = options.map(({ id, label: text, title }) =>
    h("button", { type: "button", title, on: { click: () => (choose(id), refresh()) }, dataset: { id } }, text),
  );
  const refresh = () => {
    for (const button of buttons) put(button, "aria-pressed", button.dataset.id === current());
  };
  refresh();
  return { element: h("div", { class: "choice", role: "group", "aria-label": label }, buttons), refresh };
}

/** A switch: a button that is pressed or not. */
export function toggle(label, isOn, turn) {
  const button = h("button", { type: "button", class: "toggle", "aria-pressed": String(isOn()) }, label);
  button.addEventListener("click", () => {
    turn(!isOn());
    put(button, "aria-pressed", isOn());
  });
  return button;
}

/** A colour of the present theme, by the name of its custom property. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** Nothing to see here, and what to do about it: a title, a sentence, and the command that mends it. */
export function emptyState(title, words, command = "") {
  return h(
    "div",
    { class: "empty" },
    h("h2", {}, title),
    h("p", {}, words),
    command ? copyable(command) : null,
  );
}

/** Text to be copied, with the button that does. */
export function copyable(text, label = "Copy") {
  const button = h("button", { type: "button", class: "copy" }, label);
  const code = h("pre", { tabindex: "0" }, h("code", {}, text));
  button.addEventListener("click", async () => {
    const copied = await copy(text, code);
    button.textContent = copied ? "Copied" : "Press Ctrl-C";
    setTimeout(() => (button.textContent = label), 2000);
  });
  return h("div", { class: "copyable" }, code, button);
}

/** Copy a text; where the browser forbids it, select it so that a key does. */
async function copy(text, shown) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(shown);
    return false;
  }
}

/** A table with a caption for those who hear it; `columns` are { title, cell(row), class }. */
export function table(caption, columns, rows) {
  return h(
    "div",
    { class: "table", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, columns.map(({ title, class: kind }) => h("th", { scope: "col", class: kind }, title)))),
      h(
        "tbody",
        {},
        rows.map((row) => h("tr", {}, columns.map(({ cell, class: kind }) => h("td", { class: kind }, cell(row))))),
      ),
    ),
  );
}
