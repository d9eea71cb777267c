// What a panel needs of the browser and ipywidgets does not give: the whole screen, keys, names for
// every control, its top in sight, and files to save.

// The panel, once this widget stands in it.
function whenIn(el, then, tries = 100) {
  const panel = el.closest(".fedlab-panel");
  if (panel) then(panel);
  else if (tries) requestAnimationFrame(() => whenIn(el, then, tries - 1));
}

// ---- projector mode ---------------------------------------------------------------------------

const WIDE = 840, HIGH = 610;  // pixels that the panel needs; on the whole screen it is enlarged

function fullScreen(panel, button) {
  const isFull = () => document.fullscreenElement === panel || panel.classList.contains("fl-full");
  const show = () => {
    button.textContent = isFull() ? "Leave full screen" : "Full screen";
    const zoom = Math.max(1, Math.min(innerWidth / WIDE, innerHeight / HIGH));
    panel.style.zoom = isFull() ? zoom.toFixed(2) : "";
  };
  button.onclick = async () => {
    if (isFull()) {
      panel.classList.remove("fl-full");
      if (document.fullscreenElement) await document.exitFullscreen();
    } else {
      // Where a page may not have the whole screen (in a frame, a phone), the whole page will do.
      const page = () => panel.classList.add("fl-full");
      if (panel.requestFullscreen) await panel.requestFullscreen().catch(page);
      else page();
      panel.focus({ preventScroll: true });
    }
    show();
  };
  panel.addEventListener("keydown", event => {
    if (event.key !== "Escape") return;
    panel.classList.remove("fl-full");
    show();
  });
  document.addEventListener("fullscreenchange", show);
  addEventListener("resize", show);
  return () => {
    document.removeEventListener("fullscreenchange", show);
    removeEventListener("resize", show);
  };
}

// ---- keys -------------------------------------------------------------------------------------

const focused = new WeakMap();  // panel → what had the focus last

// A button that was pressed and is disabled then loses the focus, and with it the keys.
function keepFocus(panel) {
  const last = focused.get(panel), now = document.activeElement;
  if (!last?.disabled) return;
  if (now === document.body || now === last) panel.focus({ preventScroll: true });
}

const TYPING = "input, textarea, select, [contenteditable], [role=application]";

function keys(panel, model) {
  panel.tabIndex = -1;
  // "b" in the panel is not "insert a cell below". JupyterLab asks the focused element itself.
  panel.addEventListener("focusin", event => {
    event.target.dataset.lmSuppressShortcuts = "true";
    focused.set(panel, event.target);
  });
  panel.addEventListener("keydown", event => {
    const typing = event.target.closest(TYPING);
    const letter = event.key.toLowerCase(), more = model.get("letters") ?? [];
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (letter === "n") {
      event.preventDefault();
      model.send({ key: "next" });
    } else if (letter === "p" && more.length) {
      event.preventDefault();
      panel.querySelector(".fl-stage button").click();
    } else if (more.includes(letter)) {
      event.preventDefault();
      model.send({ key: letter });
    }
  });
}

// ---- names for those who do not see which control stands where ----------------------------------

function set(element, name, value) {
  if (element && value && element.getAttribute(name) !== value) element.setAttribute(name, value);
}

function text(element) {
  return element?.textContent.trim() || "";
}

const WIDGET = ".jupyter-widgets, .widget-slider";  // a SelectionSlider is only the second

function nameAll(panel) {
  for (const widget of panel.querySelectorAll(WIDGET)) {
    const card = text(widget.closest(".fl-card")?.querySelector(".fl-card-name"));
    const of = name => (card ? `${card}: ${name}` : name);
    const own = selector => [...widget.querySelectorAll(selector)]
      .filter(part => part.closest(WIDGET) === widget);
    const label = text(widget.querySelector(":scope > .widget-label"));
    const handles = own(".noUi-handle"), [readout] = own(".widget-readout");
    handles.forEach((handle, i) => {
      const two = handles.length === 2;
      set(handle, "aria-label", of(two ? ["first shard", "last shard"][i] : label));
      const number = String(Number(handle.getAttribute("aria-valuenow")));
      set(handle, "aria-valuetext", two || !readout ? number : text(readout));
    });
    if (readout && label) set(readout, "aria-label", `${of(label)}, as text`);
    if (readout?.isContentEditable) set(readout, "role", "textbox");
    for (const kind of ["input", "select", "textarea"]) {
      const inputs = widget.querySelectorAll(`:scope > ${kind}`);
      if (label) inputs.forEach(input => set(input, "aria-label", of(label)));
    }
    set(widget.querySelector(":scope > i.fa"), "aria-hidden", "true");  // its glyph is no word
    if (card && widget.matches("button")) set(widget, "aria-label", of(text(widget)));
    if (widget.matches("button.fl-fold")) {
      set(widget, "aria-expanded", String(widget.classList.contains("fl-on")));
    }
    if (widget.matches("button.fl-tab, button.fl-switch")) {
      set(widget, "aria-pressed", String(widget.matches(".fl-on, .mod-active")));
    }
  }
}

function names(panel) {
  let asked = 0;
  const soon = () => {
    asked ||= requestAnimationFrame(() => {
      asked = 0;
      nameAll(panel);
      keepFocus(panel);
    });
  };
  const watcher = new MutationObserver(soon);
  watcher.observe(panel, {
    subtree: true, childList: true, characterData: true,
    attributes: true, attributeFilter: ["aria-valuetext", "class", "disabled"],
  });
  soon();
  return () => watcher.disconnect();
}

// ---- its top in sight -------------------------------------------------------------------------

// After Shift+Enter JupyterLab shows the next cell, and of a tall panel only the end: not where one
// begins. Only then: whoever runs all cells, or reads elsewhere, stays where they are.
function topInSight(panel) {
  const cell = panel.closest(".jp-Cell");
  const cells = [...document.querySelectorAll(".jp-Notebook .jp-Cell")];
  const active = cells.findIndex(one => one.classList.contains("jp-mod-active"));
  const here = cells.indexOf(cell);
  if (cell && (active === here || active === here + 1)) {
    const { top } = panel.getBoundingClientRect();
    const around = panel.closest(".jp-WindowedPanel-outer, .jp-Notebook");
    const notebook = around?.getBoundingClientRect();
    if (notebook && (top < notebook.top || top > notebook.top + 0.4 * notebook.height)) {
      panel.scrollIntoView({ block: "start" });
    }
  }
}

// ---- files ------------------------------------------------------------------------------------

function save({ name, type }, bytes) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// Once for the panel, in however many places it is shown.
function initialize({ model }) {
  model.on("msg:custom", (message, buffers) => message.save && save(message.save, buffers[0]));
}

function render({ model, el }) {
  const button = document.createElement("button");
  button.className = "jupyter-widgets jupyter-button widget-button";
  button.textContent = "Full screen";
  el.append(button);
  const ends = [];
  whenIn(el, panel => {
    ends.push(fullScreen(panel, button), names(panel));
    keys(panel, model);
    setTimeout(() => topInSight(panel), 300);
    setTimeout(() => topInSight(panel), 1200);  // the cells below have their height now
  });
  return () => ends.forEach(end => end());
}

export default { initialize, render };
