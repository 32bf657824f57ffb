"use strict";

(() => {
  const REFRESH_MS = 300;
  const BESIDE_PX = 130; // below the frame: the control, and Label Studio's bar with its buttons
  const LEAST_PX = 360;
  const ROOT = document.documentElement;
  const buttons = [...document.querySelectorAll(".use")].map((element) => ({
    element,
    labels: JSON.parse(element.dataset.set),
    number: Number(element.dataset.number),
  }));

  // Theme: that of Label Studio with one origin, else light.
  const followTheme = () => {
    const around = typeof LabelStudio === "undefined" ? null : LabelStudio.page();
    if (!around) return;
    const take = () => {
      ROOT.dataset.colorScheme = around.documentElement.dataset.colorScheme === "dark" ? "dark" : "light";
    };
    take();
    const observer = new MutationObserver(take);
    observer.observe(around.documentElement, { attributes: true, attributeFilter: ["data-color-scheme"] });
    window.addEventListener("pagehide", () => observer.disconnect());
  };

  // Height: nothing scrolls inside. Blocks that do not fit are shown one screen later.
  const blocks = [...document.querySelectorAll(".block")];
  const more = document.getElementById("more");
  let first = 0;

  const lay = () => {
    if (!more || !blocks.length) return;
    for (const block of blocks) block.hidden = false;
    more.hidden = true;
    const frame = LabelStudio.frame();
    if (frame) {
      const top = frame.getBoundingClientRect().top;
      const room = Math.max(window.parent.innerHeight - Math.max(top, 0) - BESIDE_PX, LEAST_PX);
      frame.style.height = `${Math.min(document.body.offsetHeight, room)}px`;
    }
    const height = window.innerHeight;
    blocks.forEach((block, place) => {
      block.hidden = place < first;
    });
    if (first === 0 && document.body.offsetHeight <= height) return;
    more.hidden = false;
    more.textContent = more.dataset.some;
    let next = blocks.length;
    while (next > first + 1 && document.body.offsetHeight > height) {
      next -= 1;
      blocks[next].hidden = true;
    }
    more.dataset.next = String(next < blocks.length ? next : 0);
    const rest = String(blocks.length - next);
    more.textContent = next < blocks.length ? more.dataset.count.replace("{count}", rest) : more.dataset.back;
    if (frame) frame.style.height = `${Math.min(document.body.offsetHeight, height)}px`;
    ROOT.classList.toggle("fitted", document.body.offsetHeight <= height);
  };

  more?.addEventListener("click", () => {
    first = Number(more.dataset.next);
    lay();
  });

  // Pictures.
  const enlarged = document.getElementById("enlarged");
  for (const link of document.querySelectorAll(".thumb")) {
    const picture = link.querySelector("img");
    const broken = () => link.parentElement.classList.add("broken");
    if (picture.complete && !picture.naturalWidth) broken();
    picture.addEventListener("error", broken);
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      const image = enlarged.querySelector("img") ?? new Image();
      image.src = link.href;
      image.alt = link.dataset.path;
      enlarged.prepend(image);
      enlarged.querySelector(".path").textContent = link.dataset.path;
      enlarged.querySelector(".similarity").textContent = link.dataset.similarity;
      const task = enlarged.querySelector(".open");
      task.hidden = !link.dataset.task;
      if (link.dataset.task) task.href = link.dataset.task;
      enlarged.showModal();
    });
  }
  enlarged?.addEventListener("click", (event) => {
    if (event.target === enlarged) enlarged.close();
  });

  // Labels.
  const count = (use) => {
    const { project, key } = document.body.dataset;
    fetch(`panel/use?project=${encodeURIComponent(project)}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ key, use }),
      keepalive: true,
    }).catch(() => {});
  };

  let refreshes = 0; // in which labels could be taken
  let isOffered = false;
  let taken = null;
  let isKept = true; // the label that was taken is still chosen

  const countOffered = () => {
    if (!isOffered) count("offered");
    isOffered = true;
  };

  const refresh = () => {
    let changed = false;
    for (const { element, labels } of buttons) {
      const hidden = !LabelStudio.canSet(labels);
      changed ||= element.hidden !== hidden;
      element.hidden = hidden;
      const isChosen = LabelStudio.has(labels);
      element.setAttribute("aria-pressed", String(isChosen));
      element.closest(".offer, .group").classList.toggle("chosen", isChosen);
    }
    if (changed) lay();
    if (buttons.some(({ element }) => !element.hidden)) {
      refreshes += 1;
      if (refreshes === 4) countOffered(); // Label Studio loads the page twice, and drops the first one
      if (taken) isKept = LabelStudio.has(taken);
    }
    if ("sample" in document.body.dataset && LabelStudio.hasSubmitted()) {
      window.location.replace(window.location.href.replace("&src=", "&submitted=1&src="));
    }
  };

  const take = ({ element, labels }) => {
    if (element.hidden || !LabelStudio.set(labels)) return;
    countOffered();
    if (!taken) count("taken");
    [taken, isKept] = [labels, true];
    refresh();
  };

  const hasKeys = () => {
    const panels = LabelStudio.page()?.querySelectorAll("iframe[src*='/similar?project=']") ?? [];
    return panels[0] === LabelStudio.frame(); // of several panels, the first one
  };

  const onKey = (event) => {
    const number = /^Digit([1-9])$/.exec(event.code)?.[1];
    const isOurs = event.altKey && !event.ctrlKey && !event.metaKey && !event.shiftKey;
    if (!number || !isOurs || event.getModifierState("AltGraph") || !hasKeys()) return;
    const button = buttons.find((one) => one.number === Number(number) && one.element.checkVisibility());
    if (!button) return;
    event.preventDefault();
    event.stopPropagation();
    if (!event.repeat) take(button);
  };

  const live = () => {
    const around = LabelStudio.page();
    if (!around) return;
    for (const kbd of document.querySelectorAll("kbd")) kbd.hidden = !hasKeys();
    const timer = window.setInterval(refresh, REFRESH_MS);
    for (const target of [around, document]) target.addEventListener("keydown", onKey, true);
    for (const button of buttons) button.element.addEventListener("click", () => take(button));
    window.addEventListener("pagehide", () => {
      window.clearInterval(timer);
      for (const target of [around, document]) target.removeEventListener("keydown", onKey, true);
      if (taken && !isKept) count("corrected");
    });
    refresh();
  };

  followTheme();
  if (typeof LabelStudio !== "undefined") {
    live();
    lay();
    window.addEventListener("resize", lay);
    LabelStudio.frame()?.ownerDocument.defaultView.addEventListener("resize", lay);
  }
})();
