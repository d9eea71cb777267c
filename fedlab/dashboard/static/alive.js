// One line that only a living widget can show; it tells Python that it was drawn. And a line for
// screen readers, which stays in its place while the table beside it is replaced.
export default {
  render({ model, el }) {
    const line = document.createElement("div"), said = document.createElement("div");
    line.className = "fl-alive";
    line.textContent = "This line was drawn by a widget.";
    said.className = "fl-unseen";
    said.setAttribute("role", "status");
    const say = () => { said.textContent = model.get("said"); };
    model.on("change:said", say);
    el.append(line, said);
    say();
    model.send({ drawn: true });
    return () => model.off("change:said", say);
  },
};
