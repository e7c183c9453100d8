// Values under the pointer. The page says all it has to say without this.
(() => {
  const runs = JSON.parse(document.getElementById("data").textContent).runs;
  const text = (value, percent) => {
    if (percent) return (100 * value).toFixed(1) + " %";
    const size = Math.abs(value);
    return value === 0 || (size >= 1e-3 && size < 1e7) ? Number(value.toPrecision(4)).toString() : value.toExponential(2);
  };
  // The logged point whose step is nearest.
  const nearest = (curve, step) => {
    let low = 0, high = curve.step.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (curve.step[middle] < step) low = middle + 1; else high = middle;
    }
    return low > 0 && step - curve.step[low - 1] < curve.step[low] - step ? low - 1 : low;
  };
  for (const figure of document.querySelectorAll("figure.chart[data-x0]")) {
    const plot = figure.querySelector(".plot");
    const [left, right] = [Number(figure.dataset.x0), Number(figure.dataset.x1)];
    const percent = "percent" in figure.dataset;
    const lines = [...figure.querySelectorAll("[data-curve]")].map((item) => ({
      run: runs[item.dataset.run], curve: runs[item.dataset.run].curves[item.dataset.curve],
    })).filter((line) => line.curve && line.curve.step.length);
    const cursor = document.createElement("div"), tip = document.createElement("div");
    cursor.className = "cursor";
    tip.className = "tip";
    const leave = () => { cursor.remove(); tip.remove(); };
    figure.dataset.live = "";
    plot.addEventListener("pointerleave", leave);
    plot.addEventListener("pointermove", (event) => {
      if (!lines.length) return;
      const box = plot.getBoundingClientRect();
      const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
      const epoch = left + share * (right - left);
      tip.replaceChildren();
      const add = (line) => tip.append(Object.assign(document.createElement("div"), { textContent: line }));
      let at = epoch;
      lines.forEach(({ run, curve }, index) => {
        const found = nearest(curve, epoch * (run.steps_per_epoch || 1));
        const step = curve.step[found], value = curve.value[found];
        const here = step / (run.steps_per_epoch || 1);
        if (index === 0) {
          at = here;
          add(`epoch ${here.toFixed(2)}` + (lines.length === 1 ? ` · step ${step}` : ""));
        }
        const shown = value === null ? "not finite" : text(value, percent);
        add(lines.length === 1 ? shown : `${run.name}: ${shown}`);
      });
      const x = Math.min(1, Math.max(0, (at - left) / (right - left))) * box.width;
      cursor.style.left = x + "px";
      plot.append(cursor, tip);
      tip.style.top = "4px";
      const wide = tip.offsetWidth + 10;
      tip.style.left = Math.max(0, x + wide + 4 > box.width ? x - wide : x + 10) + "px";
    });
  }
})();
