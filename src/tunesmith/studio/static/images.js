// Images of this computer: chosen in a form, shown, and sent as they are within a question.

import { h } from "./elements.js";
import { t } from "./language.js";
import { field } from "./pieces.js";

const FORMATS = "image/png,image/jpeg,image/gif,image/webp,image/bmp";

const asAddress = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.addEventListener("load", () => resolve(reader.result));
  reader.addEventListener("error", () => reject(reader.error));
  reader.readAsDataURL(file);
});

// A field for images with what is chosen shown below it, and a function that gives these as {name, address}.
export function imageField(label, hint) {
  const input = h("input", { type: "file", accept: FORMATS, multiple: true });
  const chosen = h("div", { class: "images" });
  let images = [];
  const show = async () => {
    try {
      images = await Promise.all([...input.files].map(async (file) => ({ name: file.name, address: await asAddress(file) })));
    } catch { images = []; }
    chosen.replaceChildren(...images.map(picture));
  };
  let reading = Promise.resolve();
  input.addEventListener("change", () => { reading = show(); });
  const clear = () => { input.value = ""; images = []; chosen.replaceChildren(); };
  return { place: h("div", {}, field(label, input, { hint }), chosen), read: async () => { await reading; return images; }, clear };
}

export const picture = ({ name, address }) => h("img", { class: "picture", src: address, alt: t("try.image_of", { name }) });
