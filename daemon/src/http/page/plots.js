// Small pictures in SVG, each with a sentence that says the same.

const SVG = "http://www.w3.org/2000/svg";

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  if (text !== undefined) made.textContent = text;
  return made;
}

function picture(width, height, sentence) {
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": sentence });
  svg.append(shape("title", {}, sentence));
  return svg;
}

export function clock(seconds, day) {
  const options = { hour: "2-digit", minute: "2-digit" };
  if (day) Object.assign(options, { day: "2-digit", month: "2-digit" });
  else options.second = "2-digit";
  return new Date(seconds * 1000).toLocaleString([], options);
}

// A bar of a pool, with its low mark.
export function bar(left, low, high, sentence) {
  const svg = picture(300, 22, sentence);
  const full = Math.max(high, left, 1);
  const at = (value) => (300 * value) / full;
  svg.append(shape("rect", { class: "bar-back", x: 0, y: 4, width: 300, height: 14, rx: 4 }));
  const kind = left < low ? "bar low" : "bar";
  svg.append(shape("rect", { class: kind, x: 0, y: 4, width: at(left), height: 14, rx: 4 }));
  if (low > 0) svg.append(shape("line", { class: "mark", x1: at(low), x2: at(low), y1: 0, y2: 22 }));
  return svg;
}

const HIGH = 180, LEFT = 56, RIGHT = 12, TOP = 10, BOTTOM = 24;

function frame(svg, wide, from, to, most, unit) {
  const base = HIGH - BOTTOM;
  svg.append(shape("line", { class: "axis", x1: LEFT, x2: wide - RIGHT, y1: base, y2: base }));
  svg.append(shape("line", { class: "axis", x1: LEFT, x2: wide - RIGHT, y1: TOP, y2: TOP }));
  svg.append(shape("text", { x: LEFT - 6, y: TOP + 5, "text-anchor": "end" }, `${most}${unit}`));
  svg.append(shape("text", { x: LEFT - 6, y: base + 4, "text-anchor": "end" }, "0"));
  const day = to - from > 36000;
  svg.append(shape("text", { x: LEFT, y: HIGH - 6 }, clock(from, day)));
  svg.append(shape("text", { x: wide - RIGHT, y: HIGH - 6, "text-anchor": "end" }, clock(to, day)));
}

function scale(wide, from, to, most) {
  const width = Math.max(to - from, 1);
  return {
    x: (at) => LEFT + ((wide - LEFT - RIGHT) * (at - from)) / width,
    y: (value) => HIGH - BOTTOM - ((HIGH - BOTTOM - TOP) * Math.min(value, most)) / Math.max(most, 1),
  };
}

// What is left of a budget: it stays until the next answer.
export function course(wide, points, now, sentence) {
  const svg = picture(wide, HIGH, sentence);
  const from = points[0][0];
  const to = Math.max(now, from + 60);
  const most = Math.max(...points.map(([, left]) => left), 1);
  const { x, y } = scale(wide, from, to, most);
  let path = `M${x(from)} ${y(points[0][1])}`;
  for (const [at, left] of points) path += `H${x(at)}V${y(left)}`;
  path += `H${x(to)}`;
  svg.append(shape("path", { class: "area", d: `${path}V${y(0)}H${x(from)}Z` }));
  svg.append(shape("path", { class: "curve", d: path }));
  frame(svg, wide, from, to, most, "");
  return svg;
}

// Each question a dot, filled where this node asked; refusals are crosses at the bottom.
export function latencies(wide, queries, now, sentence) {
  const svg = picture(wide, HIGH, sentence);
  const from = queries[0].at;
  const to = Math.max(now, from + 60);
  const answered = queries.filter((query) => query.obstacle === null);
  const most = Math.ceil(Math.max(...answered.map((query) => query.milliseconds), 1));
  const { x, y } = scale(wide, from, to, most);
  frame(svg, wide, from, to, most, " ms");
  for (const query of queries) {
    const at = x(query.at);
    if (query.obstacle === null) {
      const kind = query.side === "client" ? "dot" : "dot compute";
      svg.append(shape("circle", { class: kind, cx: at, cy: y(query.milliseconds), r: 3 }));
    } else {
      const base = y(0) - 5;
      svg.append(shape("path", { class: "cross", d: `M${at - 4} ${base - 4}l8 8m0 -8l-8 8` }));
    }
  }
  return svg;
}
