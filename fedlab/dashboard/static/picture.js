// The picture of the round as a widget: see fedlab/http/pages/round.js.
import { roundPicture } from "./round.js";

function render({ model, el }) {
  const picture = roundPicture(el);
  const show = () => picture.show(model.get("scene"));
  model.on("change:scene", show);
  show();
  return () => {
    model.off("change:scene", show);
    picture.close();
  };
}

export default { render };
