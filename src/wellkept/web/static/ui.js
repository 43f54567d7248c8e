// What a page does beside being read: copying commands, live parts, a slider, panning. None of it is needed.
"use strict";

function commands(root) {
  for (const code of root.querySelectorAll(".cmd code")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "copy";
    button.setAttribute("aria-label", "copy " + code.textContent);
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
    code.after(button);
  }
}

async function parts(url) {
  const answer = await fetch(url, { credentials: "same-origin" });
  if (!answer.ok) return null;
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

function live() {
  const where = document.body.dataset.live || document.querySelector("[data-watch]")?.dataset.watch;
  if (!where) return;
  let busy = false;
  const source = new EventSource(where);
  source.onmessage = async () => {
    if (busy || document.hidden) return;
    busy = true;
    try {
      const open = [...document.querySelectorAll("details")].map((one) => one.open);
      const found = await parts(location.href);
      const main = found && found.querySelector("main");
      if (main && !document.querySelector("main").contains(document.activeElement)) {
        document.querySelector("main").replaceChildren(...main.childNodes);
        document.querySelectorAll("details").forEach((one, i) => { if (i in open) one.open = open[i]; });
        begin(document.querySelector("main"));
      }
    } finally {
      busy = false;
    }
  };
  addEventListener("pagehide", () => source.close());
}

const UNITS = ["B", "kB", "MB", "GB", "TB"];
function size(bytes) {
  let i = 0;
  while (bytes >= 999.5 && i < UNITS.length - 1) { bytes /= 1000; i += 1; }
  return (bytes >= 99.5 || i === 0 ? bytes.toFixed(0) : bytes.toFixed(1)) + " " + UNITS[i];
}

function slider(root) {
  const figure = root.querySelector("[data-line]");
  const text = root.querySelector("input[name=free]:not([type=hidden])");
  if (!figure || !text) return;
  const line = JSON.parse(figure.dataset.line);
  const range = document.createElement("input");
  range.type = "range";
  range.min = 0;
  range.max = 1000;
  range.setAttribute("aria-label", "bytes to free");
  const most = line[line.length - 1].bytes;
  range.value = most ? 1000 * figure.dataset.at / most : 0;
  let last = 0;
  range.addEventListener("input", () => {
    text.value = size(most * range.value / 1000);
    clearTimeout(last);
    last = setTimeout(async () => {
      const url = new URL(location.href);
      url.searchParams.set("free", Math.round(most * range.value / 1000) + " B");
      const found = await parts(url);
      const plan = found && found.querySelector("#plan");
      if (plan) {
        document.querySelector("#plan").replaceChildren(...plan.childNodes);
        commands(document.querySelector("#plan"));
        const drawn = found.querySelector("[data-line] svg");
        if (drawn) figure.querySelector("svg").replaceWith(drawn);
      }
    }, 150);
  });
  text.closest("label").after(range);
}

function pan(root) {
  const frame = root.querySelector("[data-pan]");
  const svg = frame && frame.querySelector("svg");
  if (!svg) return;
  const whole = svg.getAttribute("viewBox").split(" ").map(Number);
  let view = [...whole];
  const show = () => svg.setAttribute("viewBox", view.join(" "));
  const zoom = (by, x, y) => {
    const width = Math.min(whole[2] * 2, Math.max(80, view[2] * by));
    const real = width / view[2];
    view = [x - (x - view[0]) * real, y - (y - view[1]) * real, width, view[3] * real];
    show();
  };
  const place = (event) => {
    const found = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    return [found.x, found.y];
  };
  frame.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15, ...place(event));
  }, { passive: false });
  let from = null;
  svg.addEventListener("pointerdown", (event) => { if (!event.target.closest("a")) { from = place(event); svg.setPointerCapture(event.pointerId); } });
  svg.addEventListener("pointermove", (event) => {
    if (!from) return;
    const [x, y] = place(event);
    view[0] += from[0] - x;
    view[1] += from[1] - y;
    show();
  });
  svg.addEventListener("pointerup", () => { from = null; });
  frame.addEventListener("keydown", (event) => {
    const step = view[2] / 10;
    const keys = {
      ArrowLeft: () => { view[0] -= step; }, ArrowRight: () => { view[0] += step; },
      ArrowUp: () => { view[1] -= step; }, ArrowDown: () => { view[1] += step; },
      "+": () => zoom(1 / 1.3, view[0] + view[2] / 2, view[1] + view[3] / 2),
      "-": () => zoom(1.3, view[0] + view[2] / 2, view[1] + view[3] / 2),
      0: () => { view = [...whole]; },
    };
    if (event.target !== frame || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
    show();
  });
}

function begin(root) {
  commands(root);
  slider(root);
  pan(root);
}

begin(document);
live();
