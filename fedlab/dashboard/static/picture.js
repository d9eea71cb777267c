// The picture of the round as a widget: see fedlab/http/pages/round.js.
import { roundPicture } from "./round.js";

function render({ model, el }) {
  const picture = roundPicture(el);
  const show = () => {
    const scene = model.get("scene");
    if (scene.clients) picture.show(scene);  // {} until the panel's thread has looked once
  };
  model.on("change:scene", show);
  show();
  return () => {
    model.off("change:scene", show);
    picture.close();
  };
}

export default { render };
