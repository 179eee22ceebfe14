"use strict";
/* Which pairs are shown, and in which order. No DOM here. */

globalThis.depthrankSelection = (() => {
  const ORDERS = {
    doubt: ["most doubtful first", (a, b) => b.doubt - a.doubt || a.place - b.place],
    clear: ["clearest first", (a, b) => a.doubt - b.doubt || a.place - b.place],
    item: ["as packed", (a, b) => a.place - b.place],
    reason: ["by verdict", (a, b) => compare(a.reason ?? "", b.reason ?? "") || b.doubt - a.doubt || a.place - b.place],
  };

  const DECIDED = {
    all: ["all", () => true],
    none: ["not decided", (decision) => decision.keep === null && decision.eyes === null],
    any: ["decided", (decision) => decision.keep !== null || decision.eyes !== null],
    kept: ["kept", (decision) => decision.keep === true],
    dropped: ["dropped", (decision) => decision.keep === false],
    turned: ["eyes swapped", (decision, pair) => globalThis.depthrankDecisions.turnsEyes(pair, decision)],
    voted: ["not by a person", (decision) => decision.by !== null && decision.by !== "person"],
  };

  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

  /** Entries [value, text, count] of the verdict filter, from the verdicts that occur. */
  function verdicts(pairs) {
    const count = (test) => pairs.filter(test).length;
    const reasons = [...new Set(pairs.map((pair) => pair.reason).filter((reason) => reason !== null))].sort(compare);
    const splits = [...new Set(pairs.filter((pair) => pair.reason === null).map((pair) => pair.split))].sort();
    return [
      ["all", "all", pairs.length],
      ["accepted", "accepted", count((pair) => pair.reason === null)],
      ...splits.filter(Boolean).map((split) => [
        `split ${split}`, `– ${split}`, count((pair) => pair.reason === null && pair.split === split),
      ]),
      ["rejected", "rejected", count((pair) => pair.reason !== null)],
      ...reasons.map((reason) => [
        `reason ${reason}`, `– ${words(reason)}`, count((pair) => pair.reason === reason),
      ]),
    ];
  }

  function hasVerdict(pair, value) {
    if (value === "all") return true;
    if (value === "accepted") return pair.reason === null;
    if (value === "rejected") return pair.reason !== null;
    return value === (pair.reason === null ? `split ${pair.split}` : `reason ${pair.reason}`);
  }

  /** The pairs to show, in order; `choice` has verdict, decision, order and text. */
  function select(pairs, decisions, choice) {
    const text = choice.text.trim().toLowerCase();
    const decided = DECIDED[choice.decision][1];
    return pairs
      .filter(
        (pair) =>
          hasVerdict(pair, choice.verdict) &&
          decided(decisions.of(pair.name), pair) &&
          (text === "" || pair.name.toLowerCase().includes(text)),
      )
      .sort(ORDERS[choice.order][1]);
  }

  const words = (name) => String(name).replaceAll("_", " ");

  return { ORDERS, DECIDED, verdicts, select, words };
})();
