"use strict";
for (const slider of document.querySelectorAll(".pair input")) {
  slider.addEventListener("input", () => slider.parentNode.style.setProperty("--at", slider.value + "%"));
}
