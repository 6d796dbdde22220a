"use strict";

// What comes from the data enters the page as text only, never as HTML.
(() => {
  const PAGE = 50; // rows of the table at once: the page stays small whatever the data
  const PRINTED = 500; // rows that are printed at most
  const MINUS = "\u2212";
  const TIMES = "\u00d7";
  const FIELDS = [
    "name", "file", "truth", "predicted", "probability", "margin", "next", "height", "width",
    "claims", // for the predicted class, and for the true one if that is another
  ];

  const byId = (id) => document.getElementById(id);
  const jsonOf = (id) => JSON.parse(byId(id).textContent);
  const data = jsonOf("report-data");
  const rows = jsonOf("report-rows").map((values, rank) => {
    const row = { rank };
    FIELDS.forEach((field, i) => { row[field] = values[i]; });
    row.isWrong = data.hasTruth && row.truth !== row.predicted;
    row.claims = row.claims.map(([logit, others, parts]) => {
      parts.forEach((part, place) => { part.place = place; });
      return { logit, others, parts };
    });
    return row;
  });
  const SVG = byId("svg").namespaceURI;
  const body = byId("table").tBodies[0];
  const headings = [...document.querySelectorAll("#table th[data-key]")];

  const state = {
    key: data.hasTruth ? "result" : "margin",
    isDescending: false,
    page: 0,
    isPrinting: false,
    open: new Set(),
  };

  // Elements

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children); // strings become text
    return element;
  }

  function draw(tag, attributes, ...children) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  const isolated = (text) => make("bdi", {}, text);
  const labelOf = (index) => isolated(data.labels[index]);
  const nameOf = (row) => (row.file === null ? row.name : `${row.name} \u00b7 ${row.file}`);

  // Numbers

  function formatNumber(value, digits = 2, isSigned = false) {
    const text = Math.abs(value).toFixed(digits);
    const isZero = Number(text) === 0;
    if (value < 0 && !isZero) return MINUS + text;
    return (isSigned ? "+" : "") + text;
  }

  function formatPercent(probability) {
    if (probability > 0 && probability < 0.0005) return "below 0.1 %";
    if (probability >= 0.9995 && probability < 1) return "over 99.9 %";
    return `${(100 * probability).toFixed(1)} %`;
  }

  const count = (n) => n.toLocaleString("en");

  // Pictures

  let blocks = new Map();

  // Images lie in blocks of JSON behind this script, and are read when they are shown.
  function imageOf(row) {
    const number = Math.floor(row.rank / data.imagesPerBlock);
    if (!blocks.has(number)) {
      const block = document.readyState === "loading" ? null : byId(`images-${number}`);
      if (block === null) return null;
      blocks.set(number, JSON.parse(block.textContent));
    }
    return blocks.get(number)[row.rank % data.imagesPerBlock] ?? null;
  }

  // Prototypes of several networks are counted in each.
  function titleOf(prototype) {
    const { number, member } = data.prototypes[prototype];
    return member === null ? `prototype ${number}` : `prototype ${number} (${member})`;
  }

  function sourceOf(prototype) {
    const image = document.querySelector(`#prototype-${prototype} image`);
    return image && image.getAttribute("href");
  }

  // As the gallery says it now.
  const prototypeName = (prototype) => (
    document.querySelector(`#prototype-${prototype} [data-name-of]`).cloneNode(true)
  );

  function picture(uri, height, width, boxes, label) {
    const isSmall = Math.max(height, width) <= data.largestPixelated;
    const svg = draw("svg", {
      class: isSmall ? "picture pixelated" : "picture",
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      "aria-label": label,
    });
    const place = { width, height };
    if (uri === null) svg.append(draw("rect", { class: "missing", ...place }));
    else svg.append(draw("image", { href: uri, preserveAspectRatio: "none", ...place }));
    boxes.forEach(({ box, colour, isOther }, i) => {
      const [y0, y1, x0, x1] = box;
      const edges = { x: x0, y: y0, width: x1 - x0, height: y1 - y0 };
      // Where boxes coincide, the later one lies inside.
      const inside = boxes.slice(i + 1).filter((other) => other.box.join() === box.join());
      const width = isOther ? 1 : 3 + 5 * inside.length;
      for (const [kind, more] of [["around", 2], [`box c${colour % data.nColours}`, 0]]) {
        const rect = draw("rect", { class: kind, ...edges });
        rect.style.strokeWidth = `${width + more}px`;
        svg.append(rect);
      }
    });
    return svg;
  }

  // Numbers of boxes stand side by side where they would cover each other.
  function number(svg, boxes, height, width) {
    const size = 0.1 * Math.max(height, width);
    const placed = [];
    boxes.forEach(({ box: [y0, , x0, x1] }, i) => {
      const place = { x: (x0 + x1) / 2, y: y0 + size };
      const covers = ({ x, y }) => Math.hypot(place.x - x, place.y - y) < 0.75 * size;
      while (placed.some(covers)) place.x += size / 4;
      placed.push(place);
      const style = { "font-size": size, "stroke-width": size / 5, ...place };
      svg.append(draw("text", style, String(i + 1)));
    });
    return svg;
  }

  // Evidence for one image

  function bar(value, ends, kind) {
    const low = Math.min(0, ...ends);
    const span = Math.max(0, ...ends) - low || 1;
    const at = (x) => (100 * (x - low)) / span;
    const svg = draw("svg", {
      class: "bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true",
    });
    const width = Math.abs(at(value) - at(0));
    svg.append(draw("rect", { class: kind, x: at(Math.min(0, value)), width, height: 8 }));
    svg.append(draw("rect", { class: "zero", x: at(0) - 0.25, width: 0.5, height: 8 }));
    return svg;
  }

  function source(part) {
    const [prototype] = part;
    const { sample, box, height, width, label } = data.prototypes[prototype];
    const caption = make(
      "figcaption", {}, isolated(titleOf(prototype)), prototypeName(prototype),
    );
    const uri = sourceOf(prototype);
    if (uri === null) {
      caption.append(" of class ", labelOf(label));
      return make("figure", {}, make("div", { class: "none" }, "no training image"), caption);
    }
    caption.append(`: training row ${sample}, class `, labelOf(label));
    const [y0, y1, x0, x1] = box;
    if (y1 - y0 === height && x1 - x0 === width) caption.append(", all of it");
    const alt = `Training row ${sample} with the part that is ${titleOf(prototype)}.`;
    const boxes = [{ box, colour: part.place }];
    return make("figure", {}, picture(uri, height, width, boxes, alt), caption);
  }

  function partOf(row, part, ends) {
    const [prototype, similarity, weight, contribution, y0, y1, x0, x1, note, others] = part;
    const colour = part.place;
    const alt = `${nameOf(row)} with the part that looks like ${titleOf(prototype)}.`;
    const boxes = others.map((box) => ({ box, colour, isOther: true }));
    boxes.push({ box: [y0, y1, x0, x1], colour });
    const image = picture(imageOf(row), row.height, row.width, boxes, alt);
    const more = others.length ? `, and ${others.length} more` : "";
    const caption = make("figcaption", {}, `this part${data.boxNotes[note]}${more}`);
    const formula = `${formatNumber(similarity)} ${TIMES} ${formatNumber(weight, 3)} = `
      + formatNumber(contribution, 2, true);
    const kind = `box-fill c${part.place % data.nColours}`;
    return make(
      "li", {},
      make("span", { class: `badge ${kind}` }, String(part.place + 1)),
      make("figure", {}, image, caption),
      make("span", { class: "like", role: "img", "aria-label": "looks like" }, "\u2248"),
      source(part),
      make(
        "div", { class: "adds" },
        make("div", { class: "formula" }, formula),
        make("div", { class: "note" }, `similarity ${TIMES} weight = contribution`),
        bar(contribution, ends, kind),
      ),
    );
  }

  function sumOf({ logit, others, parts }, ends) {
    const shown = formatNumber(logit - others);
    const n = data.prototypes.length - parts.length;
    const all = `logit ${formatNumber(logit)}`;
    if (n === 0) return make("p", { class: "sum" }, `all shown ${shown} = ${all}`);
    const rest = `all other ${n} prototype${n > 1 ? "s" : ""} ${formatNumber(others)}`;
    const sum = make("p", { class: "sum" }, `shown ${shown} + ${rest} = ${all}`);
    return make("div", {}, sum, bar(others, ends, "others"));
  }

  function answerTo(row) {
    const [claim, truth] = row.claims;
    const answer = make("p", {}, "Predicted: class ", labelOf(row.predicted));
    answer.append(
      `, with probability ${formatPercent(row.probability)} and logit `
      + `${formatNumber(claim.logit)}. Next is class `,
      labelOf(row.next), `, ${formatNumber(row.margin)} below.`,
    );
    if (row.isWrong) {
      answer.append(" This is wrong: it is of class ", labelOf(row.truth));
      answer.append(truth === undefined
        ? ", which the classifier does not know."
        : `, which has logit ${formatNumber(truth.logit)}.`);
    }
    return answer;
  }

  function evidenceFor(row, claim) {
    const ends = [...claim.parts.map((part) => part[3]), claim.others];
    const boxes = claim.parts.map((part) => ({ box: part.slice(4, 8), colour: part.place }));
    const image = imageOf(row);
    const alt = `${nameOf(row)} with the parts that count most.`;
    const whole = picture(image, row.height, row.width, boxes, alt);
    const left = make("div", {}, number(whole, boxes, row.height, row.width));
    if (image === null) left.append(make("p", { class: "note" }, "The image was left out."));
    const parts = make("ol", { class: "parts" });
    for (const part of claim.parts) parts.append(partOf(row, part, ends));
    return make("div", { class: "why" }, left, make("div", {}, parts, sumOf(claim, ends)));
  }

  // A cell that spans hidden columns would make room for them.
  const isShown = (heading) => getComputedStyle(heading).display !== "none";

  function evidenceOf(row) {
    const [claim, truth] = row.claims;
    const cell = make(
      "td", { colspan: headings.filter(isShown).length + 1 },
      make("h3", {}, "Why class ", labelOf(row.predicted), "?"),
      answerTo(row),
      evidenceFor(row, claim),
    );
    if (truth !== undefined) {
      cell.append(make("h3", {}, "What speaks for class ", labelOf(row.truth), "?"));
      cell.append(evidenceFor(row, truth));
    }
    return make("tr", { class: "evidence", id: `evidence-${row.rank}` }, cell);
  }

  // The table

  function toggle(row, tr, button) {
    const isOpen = !state.open.has(row.rank);
    button.setAttribute("aria-expanded", String(isOpen));
    if (isOpen) {
      state.open.add(row.rank);
      tr.after(evidenceOf(row));
      button.setAttribute("aria-controls", `evidence-${row.rank}`);
    } else {
      state.open.delete(row.rank);
      tr.nextElementSibling.remove();
      button.removeAttribute("aria-controls");
    }
  }

  function rowsOf(row) {
    const button = make(
      "button", { type: "button", "aria-expanded": "false" }, make("bdi", {}, nameOf(row)),
    );
    const small = picture(imageOf(row), row.height, row.width, [], nameOf(row));
    const tr = make(
      "tr", { class: row.isWrong ? "sample wrong" : "sample" },
      make("td", { class: "thumbnail" }, small),
      make("th", { scope: "row" }, button),
    );
    if (data.hasTruth) {
      tr.append(make("td", { class: "result" }, row.isWrong ? "wrong" : "right"));
      tr.append(make("td", {}, labelOf(row.truth)));
    }
    tr.append(
      make("td", {}, labelOf(row.predicted)),
      make("td", { class: "number second" }, formatPercent(row.probability)),
      make("td", { class: "number second" }, formatNumber(row.margin)),
    );
    button.addEventListener("click", () => toggle(row, tr, button));
    if (!state.open.has(row.rank)) return [tr];
    button.setAttribute("aria-expanded", "true");
    button.setAttribute("aria-controls", `evidence-${row.rank}`);
    return [tr, evidenceOf(row)];
  }

  const compareTexts = new Intl.Collator("en", { numeric: true }).compare;
  const COMPARE = {
    result: () => 0, // rows come in this order
    sample: (a, b) => compareTexts(nameOf(a), nameOf(b)),
    truth: (a, b) => a.truth - b.truth,
    predicted: (a, b) => a.predicted - b.predicted,
    probability: (a, b) => a.probability - b.probability,
    margin: (a, b) => a.margin - b.margin,
  };

  function sorted() {
    const compare = COMPARE[state.key];
    const sign = state.isDescending ? -1 : 1;
    const last = state.key === "result" ? sign : 1;
    return [...rows].sort((a, b) => sign * compare(a, b) || last * (a.rank - b.rank));
  }

  function textOf(row) {
    if (row.text === undefined) {
      const labels = [row.truth, row.predicted].map((index) => data.labels[index] ?? "");
      row.text = [nameOf(row), ...labels].join("\n").toLowerCase();
    }
    return row.text;
  }

  function isWanted(row) {
    const text = byId("text").value.trim().toLowerCase();
    const predicted = byId("predicted").value;
    if (text && !textOf(row).includes(text)) return false;
    if (predicted !== "" && row.predicted !== Number(predicted)) return false;
    if (!data.hasTruth) return true;
    const truth = byId("truth").value;
    if (truth !== "" && row.truth !== Number(truth)) return false;
    return row.isWrong || !byId("wrong").checked;
  }

  let order = sorted();
  let shown = [];

  function say(first, last, n) {
    const all = n === rows.length ? "" : `, chosen from ${count(rows.length)}`;
    if (n === 0) return `No image${all}.`;
    return `Images ${count(first + 1)} to ${count(last)} of ${count(n)}${all}.`;
  }

  function render() {
    blocks = new Map();
    const wanted = order.filter(isWanted);
    const size = state.isPrinting ? PRINTED : PAGE;
    const nPages = Math.max(1, Math.ceil(wanted.length / PAGE));
    state.page = Math.min(state.page, nPages - 1);
    const first = state.isPrinting ? 0 : state.page * PAGE;
    shown = wanted.slice(first, first + size);
    body.replaceChildren(...shown.flatMap(rowsOf));
    byId("status").textContent = say(first, first + shown.length, wanted.length);
    byId("page").textContent = `Page ${count(state.page + 1)} of ${count(nPages)}`;
    byId("before").disabled = state.page === 0;
    byId("after").disabled = state.page === nPages - 1;
    for (const heading of headings) {
      if (heading.dataset.key !== state.key) heading.removeAttribute("aria-sort");
      else heading.setAttribute("aria-sort", state.isDescending ? "descending" : "ascending");
    }
  }

  function sortBy(key) {
    state.isDescending = key === state.key && !state.isDescending;
    state.key = key;
    state.page = 0;
    order = sorted();
    render();
  }

  function turn(pages) {
    state.page += pages;
    render();
    const [used, other] = pages > 0 ? ["after", "before"] : ["before", "after"];
    if (byId(used).disabled) byId(other).focus(); // or the keyboard would be lost
    byId("table").scrollIntoView();
  }

  function fill(select, isUsed) {
    data.labels.forEach((label, index) => {
      if (isUsed.has(index)) select.append(make("option", { value: index, dir: "auto" }, label));
    });
  }

  function print(isPrinting) {
    state.isPrinting = isPrinting;
    render();
  }

  function filter() {
    state.page = 0;
    render();
  }

  fill(byId("predicted"), new Set(rows.map((row) => row.predicted)));
  byId("text").addEventListener("input", filter);
  byId("predicted").addEventListener("change", filter);
  if (data.hasTruth) {
    fill(byId("truth"), new Set(rows.map((row) => row.truth)));
    byId("truth").addEventListener("change", filter);
    byId("wrong").addEventListener("change", filter);
  }
  byId("open").addEventListener("click", () => {
    shown.forEach((row) => state.open.add(row.rank));
    render();
  });
  byId("close").addEventListener("click", () => {
    state.open.clear();
    render();
  });
  byId("before").addEventListener("click", () => turn(-1));
  byId("after").addEventListener("click", () => turn(1));
  for (const heading of headings) {
    const sort = () => sortBy(heading.dataset.key);
    heading.querySelector("button").addEventListener("click", sort);
  }
  window.addEventListener("beforeprint", () => print(true));
  window.addEventListener("afterprint", () => print(false));
  matchMedia("(max-width: 40rem)").addEventListener("change", render);
  document.addEventListener("DOMContentLoaded", render); // images are there
  byId("live").hidden = false;
  render();
})();
