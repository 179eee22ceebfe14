// Which of two points is nearer, and the words for it.

/** `{ nearer: "A" | "B" | null, margin }`; the margin is a share of the map's range, null where the map is flat. */
export function compare(map, a, b, equalShare) {
  const range = map.p98 - map.p2;
  if (!(range > 0)) {
    return { nearer: null, margin: null };
  }
  const margin = (map.at(a) - map.at(b)) / range;
  const nearer = Math.abs(margin) <= equalShare ? null : margin > 0 ? "A" : "B";
  return { nearer, margin: Math.abs(margin) };
}

/** `[headline, explanation]` of a comparison. */
export function inWords({ nearer, margin }, equalShare) {
  if (margin === null) {
    return ["No difference", "The network sees this whole picture as equally far."];
  }
  if (nearer === null) {
    return [
      "A and B are about equally near",
      `margin ${percent(margin)} of this picture's range; up to ${percent(equalShare)} counts as equal`,
    ];
  }
  return [
    `${nearer} is nearer than ${nearer === "A" ? "B" : "A"}`,
    `margin ${percent(margin)} of this picture's range of inverse depth`,
  ];
}

export function percent(share) {
  const value = 100 * share;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} %`;
}
