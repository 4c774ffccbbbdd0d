"use strict";
(() => {
  const PAGE = 25;
  const data = JSON.parse(document.getElementById("data").textContent);
  const { evaluations, turns, tasks, conditions, choices, items } = data;
  // The places in an item's entry, and in that of an answer; the answers follow from FIRST on.
  const ID = 0, TASK = 1, CONDITION = 2, PAIR = 3, PROMPT = 4, CHOICES = 5, ANSWER = 6, USERS = 7, FLIPPED = 8, FIRST = 9;
  const CHOICE = 0, RIGHT = 1, SHARES = 3, SWAYED = 4;
  const byId = (id) => document.getElementById(id);
  let found = [], start = 0, question = null;

  /** An element with a class and a text; texts of items never become html. */
  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function options(select, entries) {
    for (const [value, words] of entries) {
      const option = element("option", "", words);
      option.value = value;
      select.append(option);
    }
  }

  function isIn(task, set) {
    return task === set || task.startsWith(set + "/");
  }

  function turned(bits) {
    return turns.filter((_, bit) => bits & (1 << bit));
  }

  /** The items that meet all filters. */
  function search() {
    const text = byId("text").value.toLowerCase();
    const set = byId("set").value, condition = byId("condition").value;
    const flipped = byId("flipped").value, swayed = byId("swayed").value;
    const model = FIRST + Number(byId("model").value);
    found = items.filter((item) =>
      (question === null || (item[TASK] === question[TASK] && item[PAIR] === question[PAIR]))
      && (!set || isIn(tasks[item[TASK]][0], set))
      && (!condition || conditions[item[CONDITION]] === condition)
      && (!flipped || item[FLIPPED] & (1 << flipped))
      && (!swayed || (item[model] && item[model][SWAYED] & (1 << swayed)))
      && (!text || item[PROMPT].toLowerCase().includes(text) || item[ID].toLowerCase().includes(text)));
    start = 0;
    show();
  }

  function show() {
    byId("items").replaceChildren(...found.slice(start, start + PAGE).map(card));
    const all = items.length.toLocaleString("en");
    byId("count").textContent = found.length === items.length
      ? `${all} items` : `${found.length.toLocaleString("en")} of ${all} items`;
    const last = Math.min(start + PAGE, found.length);
    for (const nav of document.querySelectorAll(".turning")) {
      nav.hidden = found.length <= PAGE;
      nav.querySelector(".place").textContent = `${(start + 1).toLocaleString("en")} to ${last.toLocaleString("en")}`;
      nav.querySelector(".earlier").disabled = start === 0;
      nav.querySelector(".later").disabled = last === found.length;
    }
  }

  function card(item) {
    const made = element("article", "example");
    const about = element("p", "about small soft");
    about.append(
      element("b", "", tasks[item[TASK]][1]),
      element("span", "", conditions[item[CONDITION]].replace("_", " ")),
      element("code", "", item[ID]));
    if (item[FLIPPED]) about.append(element("span", "turned", `flipped ${turned(item[FLIPPED]).join(", ")}`));
    evaluations.forEach((name, number) => {
      const given = item[FIRST + number];
      if (given && given[SWAYED]) about.append(element("span", "turned", `${name}: swayed ${turned(given[SWAYED]).join(", ")}`));
    });
    const same = element("button", "question", "this question in every condition");
    same.type = "button";
    same.addEventListener("click", () => {
      byId("filters").reset(); // which searches again, soon
      question = item;
      window.scrollTo(0, 0);
    });
    about.append(same);
    const body = element("div", "body");
    const answers = element("div");
    choices[item[CHOICES]].forEach((words, index) => answers.append(choice(item, words, index)));
    body.append(element("pre", "", item[PROMPT]), answers);
    made.append(about, body);
    return made;
  }

  function choice(item, words, index) {
    const made = element("div", "choice");
    const line = element("p", "", words + " ");
    const marks = element("span", "marks");
    if (item[ANSWER] === index) marks.append(element("b", "", "right"));
    if (item[USERS].includes(index)) marks.append(item[ANSWER] === index ? ", the user's" : "the user's");
    line.append(marks);
    made.append(line);
    evaluations.forEach((name, number) => {
      const given = item[FIRST + number];
      if (!given) return;
      const share = element("div", `share e${number}${given[CHOICE] === index ? " chosen" : ""}`);
      share.append(element("span", "", name));
      if (given[SHARES].length) {
        const track = element("span", "track"), bar = element("i");
        bar.style.width = `${100 * given[SHARES][index]}%`;
        track.append(bar);
        share.append(track, element("span", "n", `${(100 * given[SHARES][index]).toFixed(1)}%`));
      } else {
        share.append(element("span", "", given[RIGHT] ? "writes exactly this" : "writes something else"));
      }
      made.append(share);
    });
    return made;
  }

  const sets = new Map();
  for (const [task, words] of [...tasks].sort()) {
    const group = task.split("/")[0];
    if (group !== task && !sets.has(group)) sets.set(group, `all of ${group}`);
    sets.set(task, words);
  }
  options(byId("set"), [["", "all"], ...sets]);
  options(byId("condition"), [["", "all"], ...conditions.map((name) => [name, name.replace("_", " ")])]);
  const kinds = [["", "any"], ...turns.map((name, bit) => [bit, name.replaceAll("-", " ")])];
  options(byId("flipped"), kinds);
  options(byId("swayed"), kinds);
  options(byId("model"), evaluations.map((name, number) => [number, name]));
  const lastModel = String(evaluations.length - 1);
  byId("model").value = lastModel;
  byId("flipped").disabled = evaluations.length < 2;
  byId("ends").textContent = evaluations.length < 2 ? "asked twice" : `${evaluations[0]} and ${evaluations.at(-1)}`;

  let waiting;
  byId("filters").addEventListener("input", () => {
    question = null;
    clearTimeout(waiting);
    waiting = setTimeout(search, 150);
  });
  byId("filters").addEventListener("reset", () => {
    question = null;
    setTimeout(() => { // when the fields are empty
      byId("model").value = lastModel;
      search();
    });
  });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  for (const [name, step] of [[".earlier", -PAGE], [".later", PAGE]]) {
    for (const button of document.querySelectorAll(name)) {
      button.addEventListener("click", () => {
        start += step;
        show();
        byId("count").scrollIntoView();
      });
    }
  }
  search();
})();
