"use strict";
/* What was decided about the pairs: the rules of keep, drop and swap, undo, autosave, and the decisions file.
   No DOM here. The file's format is described in shards/decisions.py. */

globalThis.depthrankDecisions = (() => {
  const FORMAT = "depthrank-decisions";
  const VERSION = 1;
  const MOST_BYTES = 64 * 1024 * 1024;
  const NOTHING = Object.freeze({ keep: null, eyes: null, by: null, note: null });

  /** The eyes in which a pair is drawn before anybody decides; an undecided pair is drawn as given. */
  const drawnEyes = (pair) => (pair.eyes === "swapped" ? "swapped" : "as_given");
  const otherEyes = (eyes) => (eyes === "swapped" ? "as_given" : "swapped");

  /** Whether a decision turns the eyes against how the pair is drawn. */
  const turnsEyes = (pair, decision) => decision.eyes !== null && decision.eyes !== drawnEyes(pair);

  /** The decision after `keep`, `drop` or `swap`; the same action again takes it back. */
  function decide(action, pair, before) {
    const turned = turnsEyes(pair, before);
    // Whoever keeps a pair whose eyes were weighed has seen the colours, and so confirms the eyes.
    const confirms = pair.eyes !== null || pair.reason === "eyes_undecided";
    if (action === "keep") {
      if (before.keep === true) return personal(null, turned ? before.eyes : null);
      return personal(true, confirms ? (before.eyes ?? drawnEyes(pair)) : before.eyes);
    }
    if (action === "drop") return personal(before.keep === false ? null : false, null);
    const keep = before.keep === true ? true : null;
    if (!turned) return personal(keep, otherEyes(drawnEyes(pair)));
    return personal(keep, keep && confirms ? drawnEyes(pair) : null);
  }

  const personal = (keep, eyes) => ({ keep, eyes, by: "person", note: null });

  class Decisions {
    /** `storage` is localStorage or null; `onFault` is told in one sentence what went wrong with it. */
    constructor(dataset, storage, onFault) {
      this.dataset = dataset;
      this.storageKey = `depthrank-review:${dataset}`;
      this.storage = storage;
      this.onFault = onFault;
      this.byName = new Map();
      this.past = [];
    }

    of(name) {
      return this.byName.get(name) ?? NOTHING;
    }

    get size() {
      return this.byName.size;
    }

    act(action, pair) {
      const before = this.of(pair.name);
      this.put([[pair.name, decide(action, pair, before)]]);
    }

    /** Take the last action back; the names that changed. */
    undo() {
      const changes = this.past.pop() ?? [];
      for (const [name, before] of changes) this.write(name, before);
      if (changes.length > 0) this.save();
      return changes.map(([name]) => name);
    }

    /** The decisions file, a line for each decision. */
    toText() {
      const names = [...this.byName.keys()].sort();
      const lines = names.map((name) => {
        const entry = { name, ...this.byName.get(name) };
        return JSON.stringify(Object.fromEntries(Object.entries(entry).filter(([, value]) => value !== null)));
      });
      const head = JSON.stringify({ format: FORMAT, version: VERSION, dataset: this.dataset });
      return `${head.slice(0, -1)}, "decisions": [\n${lines.join(",\n")}\n]}\n`;
    }

    /** Take the decisions of a file in, over those that are there; how many. Throws an Error that says what is wrong. */
    addText(text) {
      const entries = parse(text);
      this.put(entries);
      return entries.length;
    }

    /** Read what this browser kept of an earlier visit; how many decisions. */
    restore() {
      this.byName.clear();
      this.past = [];
      try {
        const text = this.storage?.getItem(this.storageKey);
        if (text) for (const [name, decision] of parse(text)) this.write(name, decision);
      } catch (fault) {
        this.onFault(`What this browser kept of an earlier visit cannot be read: ${fault.message}`);
      }
      return this.size;
    }

    put(changes) {
      this.past.push(changes.map(([name]) => [name, this.of(name)]));
      for (const [name, decision] of changes) this.write(name, decision);
      this.save();
    }

    write(name, decision) {
      if (decision.keep === null && decision.eyes === null) this.byName.delete(name);
      else this.byName.set(name, decision);
    }

    save() {
      try {
        if (!this.storage) throw new Error("it gives this page no storage");
        this.storage.setItem(this.storageKey, this.toText());
        this.unsaved = false;
      } catch (fault) {
        this.unsaved = true;
        this.onFault(`This browser keeps nothing (${fault.message}): download the decisions before you leave.`);
      }
    }
  }

  /** Entries [name, decision] of a decisions file. */
  function parse(text) {
    if (text.length > MOST_BYTES) throw new Error("the file is larger than 64 MiB");
    let content;
    try {
      content = JSON.parse(text);
    } catch {
      throw new Error("the file is not JSON");
    }
    if (content?.format !== FORMAT || content.version !== VERSION || !Array.isArray(content.decisions)) {
      throw new Error(`the file is no decisions file of version ${VERSION}`);
    }
    const seen = new Map();
    content.decisions.forEach((entry, place) => {
      const { name, keep = null, eyes = null, by = null, note = null } = entry ?? {};
      const sound =
        typeof name === "string" &&
        [true, false, null].includes(keep) &&
        ["as_given", "swapped", null].includes(eyes) &&
        [by, note].every((value) => value === null || typeof value === "string");
      if (!sound) throw new Error(`decision ${place} of the file is malformed`);
      if (seen.has(name)) throw new Error(`the file decides ${JSON.stringify(name)} twice`);
      seen.set(name, { keep, eyes, by, note });
    });
    return [...seen];
  }

  return { Decisions, turnsEyes };
})();
