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
      open: function (clicks) {
        const changed = window.dash_clientside.callback_context.triggered[0];
        const point = changed && changed.value && changed.value.points && changed.value.points[0];
        const data = point && point.customdata;
        const record = Array.isArray(data) ? data[0] : data;
        if (!record) return skip();
        const query = new URLSearchParams(window.location.search);
        query.set("run", record);
        return "/run?" + query.toString();
      },

      /* The record of the row that was clicked; a row of anything else opens nothing. */
      openRow: function () {
        const changed = window.dash_clientside.callback_context.triggered[0];
        const [record, row] = ((changed && changed.value && changed.value.rowId) || "").split(" ");
        if (!row) return skip();
        const query = new URLSearchParams(window.location.search);
        query.set("run", record);
        return "/run?" + query.toString();
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

      scheme: function (isDark) {
        return isDark ? "dark" : "light";
      },
    },
  });
})();
