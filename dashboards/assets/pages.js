/* What happens in the browser alone: the address and the controls follow each other, points open
   their run, figures become files. */

(function () {
  "use strict";

  /* Controls that have just appeared are as the server read the address, which stays. */
  let placed = "";

  const skip = () => window.dash_clientside.no_update;

  function listed(value) {
    if (value === null || value === undefined || value === "") return [];
    return Array.isArray(value) ? value : [value];
  }

  /* The query with one control's values in place of its old ones; all others stay. */
  function withControl(search, name, value, standard) {
    const query = new URLSearchParams(search || "");
    query.delete(name);
    for (const each of listed(value)) {
      if (each !== standard) query.append(name, each);
    }
    const text = query.toString();
    return text ? "?" + text : "";
  }

  /* The value that a control has in a query; the first choice where it has none of them. */
  function fromQuery(search, id, choices) {
    const values = new URLSearchParams(search || "").getAll(id.name);
    if (id.part === "filter") return values;
    const value = values.length ? values[values.length - 1] : null;
    const known = choices[id.name];
    return known && !known.includes(value) ? known[0] : value;
  }

  /* As Dash names an element: its keys in order. */
  function elementOf(part, name) {
    return JSON.stringify({ name: name, part: part });
  }

  /* Plotly's element of a figure. */
  function plotOf(name) {
    const holder = document.getElementById(elementOf("graph", name));
    return holder && holder.querySelector(".js-plotly-plot");
  }

  /* The figure's name in an id with a property. */
  const nameOf = (prop) => JSON.parse(prop.slice(0, prop.lastIndexOf("."))).name;

  /* Of a cell of a heat map, of which Dash tells no more than where it is. */
  function dataOfCell(name, point) {
    const trace = plotOf(name).data[point.curveNumber];
    if (!trace.customdata) return null;
    const row = trace.customdata[trace.y.indexOf(point.y)];
    return row && row[trace.x.indexOf(point.x)];
  }

  /* As a new page: the figures of this one are not to be drawn again for that address. */
  function openRun(record) {
    if (!record) return;
    const query = new URLSearchParams(window.location.search);
    query.set("run", record);
    window.location.assign("/run?" + query.toString());
  }

  function copyText(text) {
    if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
    const area = document.createElement("textarea");
    area.value = text;
    document.body.appendChild(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    return Promise.resolve();
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    pages: {
      /* One callback for both directions, so that neither can chase the other. */
      follow: function (search, filters, options, filterIds, optionIds, choices) {
        const changed = window.dash_clientside.callback_context.triggered.map((each) => each.prop_id);
        const byAddress = changed.length === 0 || changed.some((id) => id.startsWith("url."));
        const there = JSON.stringify([filterIds, optionIds]);
        const areNew = there !== placed;
        placed = there;
        if (byAddress) {
          const values = (ids) => ids.map((id) => fromQuery(search, id, choices));
          return [skip(), values(filterIds), values(optionIds)];
        }
        let next = search || "";
        const take = (ids, values) => ids.forEach((id, at) => {
          if (!changed.includes(elementOf(id.part, id.name) + ".value")) return;
          next = withControl(next, id.name, values[at], (choices[id.name] || [])[0]);
        });
        if (!areNew) {
          take(filterIds, filters);
          take(optionIds, options);
        }
        return [next === (search || "") ? skip() : next, filterIds.map(skip), optionIds.map(skip)];
      },

      /* The record of the point that was clicked. */
      open: function () {
        const changed = window.dash_clientside.callback_context.triggered[0];
        const point = changed && changed.value && changed.value.points && changed.value.points[0];
        if (!point) return;
        const data = point.customdata || dataOfCell(nameOf(changed.prop_id), point);
        openRun(Array.isArray(data) ? data[0] : data);
      },

      /* The record of the row that was clicked; a row of anything else opens nothing. */
      openRow: function () {
        const changed = window.dash_clientside.callback_context.triggered[0];
        const [record, row] = ((changed && changed.value && changed.value.rowId) || "").split(" ");
        if (row) openRun(record);
      },

      picture: function (png, svg, id) {
        const changed = window.dash_clientside.callback_context.triggered[0];
        const plot = plotOf(id.name);
        if (!changed || !changed.value || !plot) return skip();
        const format = changed.prop_id.includes('"svg"') ? "svg" : "png";
        window.Plotly.downloadImage(plot, {
          format: format,
          filename: "sam-bench-" + id.name,
          width: plot.offsetWidth,
          height: plot.offsetHeight,
          scale: format === "png" ? 2 : 1,
        });
        return changed.value;
      },

      copy: function (clicks, text) {
        if (!clicks || !text) return skip();
        copyText(text);
        return "copied";
      },

      /* A zoom stays while the axis means the same. Plotly would see to that, but Dash hands it
         each zoom as if it had been asked for here, and then the next figure ends it. */
      keepZoom: function (question, answer) {
        Object.entries(answer || {}).forEach(([id, props]) => {
          const plot = props && props.figure && plotOf(nameOf(id + ".figure"));
          const [next, last] = [plot && props.figure.layout, plot && plot.layout];
          if (!last || next.uirevision !== last.uirevision) return;
          Object.entries(last).forEach(([name, axis]) => {
            if (!/^[xy]axis\d*$/.test(name) || axis.autorange !== false) return;
            if (next[name] && !next[name].range) {
              Object.assign(next[name], { range: axis.range, autorange: false });
            }
          });
        });
      },

      scheme: function (isDark) {
        return isDark ? "dark" : "light";
      },
    },
  });
})();
