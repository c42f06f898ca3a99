// A small live plot of one or two figures.

import { el, setText } from "./dom.js";

export class Plot {
	// `show`: a figure as text; without it the plot is small, and has neither scale nor legend.
	constructor(names, show = null) {
		const [width, height, points] = show ? [600, 90, 120] : [96, 20, 60];
		Object.assign(this, { show, width, height, points });
		this.series = names.map(() => []);
		const make = (tag, name, value) => {
			const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
			node.setAttribute(name, value);
			return node;
		};
		this.lines = names.map((_, at) => make("polyline", "class", `line line-${at}`));
		const picture = make("svg", "viewBox", `0 0 ${width} ${height}`);
		picture.setAttribute("preserveAspectRatio", "none");
		picture.append(...this.lines);
		this.node = el(show ? "div.plot" : "div.plot.small", picture);
		if (!show) return;
		this.top = el("span.scale");
		this.values = names.map(() => el("b"));
		this.node.append(this.top, el("div.legend", ...names.map((name, at) => el(`span.key.key-${at}`, `${name} `, this.values[at]))));
	}

	add(...values) {
		const { width, height, points, show } = this;
		values.forEach((value, at) => {
			this.series[at].push(value ?? 0);
			if (this.series[at].length > points) this.series[at].shift();
			if (show) setText(this.values[at], show(value));
		});
		const most = Math.max(1, ...this.series.flat());
		if (show) setText(this.top, show(most));
		this.series.forEach((series, at) => {
			const step = width / (points - 1);
			const left = width - (series.length - 1) * step;
			const place = (value, index) => `${(left + index * step).toFixed(1)},${(height - 1 - (value / most) * (height - 2)).toFixed(1)}`;
			this.lines[at].setAttribute("points", series.map(place).join(" "));
		});
	}
}

// Messages in a second between two looks at a queue; nothing if it was not there before, or is another one.
export function rates(row, before) {
	if (!before || row.at <= before.at || row.entered < before.entered) return [];
	const passed = row.at - before.at;
	return [(row.entered - before.entered) / passed, Math.max(0, row.left - before.left) / passed];
}
