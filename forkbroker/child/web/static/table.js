// A table of one page of rows: the broker sorts and cuts, this shows. Rows keep their elements.

import { button, count, el, keyOf, search, setText, textOf, toPattern } from "./dom.js";

export const PAGE = 50;
const MOST = 10000; // rows that the broker leaves out before a page

// Columns: a title, and a member of the row, by default of that name, or a function of it. More: `sort`, by which the
// broker sorts (true: that member); `isWide`: not on a phone.
export const text = (title, more, show = keyOf(title)) => ({ title, show, ...more });
export const number = (...all) => ({ ...text(...all), isNumber: true });
export const WIDE = { isWide: true };
export const SORTED = { sort: true };
export const BOTH = { ...WIDE, ...SORTED };
// `to`: where the link of a row leads, or what it does.
export const link = (title, to, ...all) => ({
	...text(title, ...all),
	name: "name",
	fill(cell, row) {
		cell.row = row;
		if (cell.firstChild) return;
		const target = to(row);
		const shown = textOf(row, this.show);
		cell.append(typeof target === "string" ? el("a", { href: target }, shown) : button(shown, () => to(cell.row)(), ".link"));
	},
});
const makeBox = (ariaLabel, onchange) => el("input", { type: "checkbox", ariaLabel, onchange });
const sortOf = ({ sort, show }) => (sort === true ? show : sort);
const kindOf = (tag, { isNumber, isWide, name }) => [tag, isNumber && "number", isWide && "wide", name].filter(Boolean).join(".");

export class Table {
	offset = 0;
	rows = [];
	made = new Map();
	selected = new Set();
	chosen = {};
	body = el("tbody");
	head = el("tr");
	from = el("span.from");
	note = el("p.empty", "Loading…");
	empty = "Nothing here.";
	bar = el("div.row.actions", { hidden: true });

	// `load` gives the rows of a page, and how many there would be: null if that is not known. `actions`: titles, what is done
	// with selected rows, and kinds of buttons; `may`: for which rows they are; `more` makes what else stands there.
	constructor({ title, scope, load, least, ...rest }) {
		Object.assign(this, rest);
		this.back = button("Previous", () => this.turn(-PAGE), ".quiet");
		this.next = button("Next", () => this.turn(PAGE), ".quiet");
		this.foot = el("div.pages", { hidden: true }, this.from, this.back, this.next);
		const table = el("table", el("caption", title), el("thead", this.head), this.body);
		this.node = el("div.listing", el("div.scroll", table), this.note, this.foot);
		this.makeHead();
		this.poll = scope.poll(async () => {
			const wanted = this.page;
			const found = await load(wanted);
			if (found && JSON.stringify(wanted) === JSON.stringify(this.page)) this.update(found);
		}, least);
	}

	key(row, at) {
		return row.name ?? row.id ?? row.pid ?? `${at} ${row.client} ${row.destination}`;
	}

	get page() {
		const { sort, reverse, offset, chosen } = this;
		return { ...chosen, sort, reverse, offset, limit: PAGE };
	}

	choose(name, value) {
		this.chosen[name] = value;
		if (value === "" || value === undefined) delete this.chosen[name];
		this.turn(-this.offset);
	}

	search(label, wanted) {
		const node = search(label, (typed) => this.choose("pattern", toPattern(typed)));
		node.value = wanted ?? "";
		this.chosen.pattern = toPattern(node.value);
		return node;
	}

	turn(by = 0) {
		this.offset = Math.max(0, this.offset + by);
		this.selected.clear();
		this.poll.now();
	}

	makeHead() {
		const cells = this.columns.map((column) => {
			const cell = el(kindOf("th", column), { scope: "col" });
			const sort = sortOf(column);
			if (sort && sort === this.sort) cell.ariaSort = this.reverse ? "descending" : "ascending";
			cell.append(sort ? button(column.title, () => this.sortBy(column), ".sort") : column.title);
			return cell;
		});
		this.head.replaceChildren(...cells);
		if (!this.actions) return;
		this.all = makeBox("Select all", () => this.select(this.rows.filter(this.may), this.all.checked));
		this.head.prepend(el("th.check", this.all));
	}

	sortBy(column) {
		const sort = sortOf(column);
		this.reverse = sort === this.sort ? !this.reverse : Boolean(column.isNumber);
		this.sort = sort;
		this.makeHead();
		this.head.querySelector("[aria-sort] button").focus();
		this.turn(-this.offset);
	}

	update({ rows, matched, isMore = this.offset + rows.length < matched }) {
		if (!rows.length && this.offset) return this.turn(-PAGE);
		this.rows = rows;
		const ids = rows.map(this.key);
		const present = new Set(ids);
		for (const [id, made] of this.made) if (!present.has(id)) made.remove(this.made.delete(id));
		for (const id of this.selected) if (!present.has(id)) this.selected.delete(id);
		rows.forEach((row, at) => this.place(row, ids[at], at));
		if (this.actions) this.showSelection();
		const total = matched === null ? "" : ` of ${count(matched)}`;
		setText(this.from, `${count(this.offset + 1)}–${count(this.offset + rows.length)}${total}`);
		this.back.disabled = !this.offset;
		this.next.disabled = !isMore || this.offset + PAGE > MOST;
		this.foot.hidden = !rows.length;
		setText(this.note, this.empty);
		this.note.hidden = rows.length > 0;
	}

	place(row, id, at) {
		let made = this.made.get(id);
		if (!made) {
			made = el("tr", ...this.columns.map((column) => el(kindOf("td", column))));
			const box = makeBox(`Select ${id}`, () => this.select([row], box.checked));
			if (this.actions) made.prepend(el("td.check", this.may(row) && box));
			this.made.set(id, made);
		}
		this.columns.forEach((column, place) => {
			const cell = made.children[place + (this.actions ? 1 : 0)];
			if (column.fill) column.fill(cell, row);
			else setText(cell, textOf(row, column.show));
		});
		if (this.body.children[at] !== made) this.body.insertBefore(made, this.body.children[at] ?? null);
	}

	select(rows, isOn) {
		for (const id of rows.map(this.key)) isOn ? this.selected.add(id) : this.selected.delete(id);
		this.showSelection();
	}

	showSelection() {
		const { size } = this.selected;
		const isPossible = this.rows.some(this.may);
		for (const [id, made] of this.made) {
			const box = made.querySelector("input");
			if (box) box.checked = this.selected.has(id);
			made.classList.toggle("selected", this.selected.has(id));
		}
		this.all.checked = size > 0 && size === this.rows.length;
		this.all.indeterminate = size > 0 && !this.all.checked;
		this.all.hidden = this.bar.hidden = !isPossible;
		// the button that has the focus keeps it
		if (this.shown === size) return;
		this.shown = size;
		const selected = () => this.rows.filter((row) => this.selected.has(this.key(row)));
		const each = this.actions.map(([title, act, kind]) => button(title, () => act(selected()), kind, { disabled: !size }));
		this.bar.replaceChildren(...each, el("small", size ? `${count(size)} selected` : ""), ...(this.more?.() ?? []));
	}
}
