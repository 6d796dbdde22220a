// Which prototypes to forbid, to keep and to name: in the controls of the gallery until it is saved.
(() => {
  "use strict";

  const KINDS = ["forbid", "keep"]; // of which a prototype has one at most
  const LONGEST = 200; // characters of a name that the file may hold

  const byId = (id) => document.getElementById(id);
  const { prototypes, modelDigest } = JSON.parse(byId("report-data").textContent);
  if (modelDigest === null) return; // of several networks, and an editor edits one

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children); // strings become text
    return element;
  }

  // Nor may it hold control characters, which can be pasted, or halves of surrogate pairs.
  function tidy(text) {
    const characters = [...text.replace(/[\p{Cc}\p{Cs}]/gu, " ").trim()];
    return characters.slice(0, LONGEST).join("").trim();
  }

  // Controls

  function showName(j, name) {
    for (const place of document.querySelectorAll(`[data-name-of="${j}"]`)) {
      place.replaceChildren(...(name === "" ? [] : [", ", make("bdi", {}, name)]));
    }
  }

  function controlsOf(prototype, j) {
    const initial = tidy(prototype.name);
    const boxes = Object.fromEntries(KINDS.map((kind) => [kind, make("input", {
      type: "checkbox", autocomplete: "off", "aria-label": `${kind} prototype ${j}`,
    })]));
    for (const kind of KINDS) {
      boxes[kind].addEventListener("change", () => {
        for (const other of KINDS) boxes[other].checked &&= other === kind;
        count();
      });
    }
    const field = make("input", {
      type: "text", autocomplete: "off", dir: "auto", maxlength: LONGEST, placeholder: "name",
      "aria-label": `name of prototype ${j}`,
    });
    field.value = initial;
    field.addEventListener("input", () => {
      showName(j, tidy(field.value));
      count();
    });
    field.addEventListener("change", () => { field.value = tidy(field.value); });
    const ticks = KINDS.map((kind) => make("label", {}, boxes[kind], kind));
    byId(`prototype-${j}`).append(
      make("div", { class: "choice" }, make("div", {}, ...ticks), field),
    );
    return { boxes, field, initial };
  }

  const controls = prototypes.map(controlsOf);

  // The choice that they make

  const ticked = (kind) => [...controls.keys()].filter((j) => controls[j].boxes[kind].checked);

  function newNames() {
    const all = controls.map(({ field }, j) => [j, tidy(field.value)]);
    return Object.fromEntries(all.filter(([j, name]) => name !== controls[j].initial));
  }

  const choice = () => ({
    schema: "sklearn_protopnet.choice",
    schema_version: 1,
    model_digest: modelDigest,
    forbid: ticked("forbid"),
    keep: ticked("keep"),
    names: newNames(),
  });
  const text = () => `${JSON.stringify(choice(), null, 1)}\n`;

  const nothing = text();
  let saved = nothing;
  const isUnsaved = () => ![nothing, saved].includes(text());

  function count() {
    const { forbid, keep, names } = choice();
    const n = Object.keys(names).length;
    const said = `${forbid.length} forbidden, ${keep.length} kept, ${n} named`;
    if (byId("count").textContent !== said) byId("count").textContent = said;
  }

  function save() {
    saved = text();
    const url = URL.createObjectURL(new Blob([saved], { type: "application/json" }));
    make("a", { href: url, download: "choice.json" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000); // a browser may ask where to save it
  }

  function clear() {
    if (isUnsaved() && !confirm("This choice is not saved. Clear it?")) return;
    controls.forEach(({ boxes, field, initial }, j) => {
      for (const kind of KINDS) boxes[kind].checked = false;
      if (field.value === initial) return; // the page shows names as they were given
      field.value = initial;
      showName(j, initial);
    });
    count();
  }

  byId("save").addEventListener("click", save);
  byId("clear").addEventListener("click", clear);
  window.addEventListener("beforeunload", (event) => {
    if (!isUnsaved()) return;
    event.preventDefault();
    event.returnValue = true; // what browsers before 2023 look at
  });
  for (const id of ["choose", "choice"]) byId(id).hidden = false;
  count();
})();
