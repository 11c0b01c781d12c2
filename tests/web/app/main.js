import { word } from "./word.js";

const show = (text) => { document.getElementById("word").textContent = text; };
show(word);
// What a reload of the page would make anew.
window.loaded = Math.random();
import.meta.hot.accept("./word.js", (fresh) => show(fresh.word));
