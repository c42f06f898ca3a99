// Elements and figures. Nothing here takes HTML: whatever a client has sent becomes the text of a node.

// `kind`: a tag and classes, as "div.row.end". Properties may be left out; children that are empty are.
export function el(kind, props, ...children) {
	const [tag, ...classes] = kind.split(".");
	const node = document.createElement(tag);
	if (classes.length) node.className = classes.join(" ");
	if (!props || typeof props !== "object" || props instanceof Node) children.unshift(props);
	else for (const [name, value] of Object.entries(props)) name in node ? (node[name] = value) : node.setAttribute(name, value);
	node.append(...children.filter((child) => child || child === 0));
	return node;
}

export const button = (text, onclick, kind = "", props = {}) => el(`button${kind}`, { type: "button", onclick, ...props }, text);
export const close = (onclick) => button("×", onclick, ".close", { ariaLabel: "Close" });
export const block = (title, ...more) => el("section.block", el("h2", title), ...more);
export const filters = (...parts) => el("div.row.filters", ...parts);
export const setText = (node, text) => node.textContent === text || (node.textContent = text);

// `act` gets the word that is chosen, or "".
export function select(ariaLabel, all, words, act) {
	const options = ["", ...words].map((value) => el("option", { value }, value || all));
	return el("select", { ariaLabel, onchange: (event) => act(event.target.value) }, ...options);
}

// A field for a part of a name; `act` gets what stands there when nothing was typed for a moment.
export function search(label, act) {
	let typed = 0;
	const oninput = ({ target }) => {
		clearTimeout(typed);
		typed = setTimeout(() => act(target.value.trim()), 250);
	};
	return el("input", { type: "search", placeholder: label, ariaLabel: label, spellcheck: false, oninput });
}

export const keyOf = (title) => title.toLowerCase().replace(" ", "-");

// Figures, as pairs of a title, and a member of a row or a function of it. The node, and what shows a row.
export function makeTiles(pairs) {
	const values = pairs.map(() => el("dd", "–"));
	const show = (row) => pairs.forEach(([name, how = keyOf(name)], at) => setText(values[at], row ? textOf(row, how) : "–"));
	return [el("dl.tiles", ...pairs.map(([name], at) => el("div", el("dt", name), values[at]))), show];
}

// Members and their values, as far as they have a plain one.
export function facts(row, show = textOf) {
	const names = Object.keys(row).filter((name) => row[name] !== "" && typeof row[name] !== "object");
	return el("dl", ...names.flatMap((name) => [el("dt", name), el("dd", show(row, name))]));
}
export const headersOf = (headers) => facts(headers, (_, name) => headers[name]);

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
const orNone = (show) => (value) => (value === null || value === undefined ? "–" : show(value));

export const count = orNone((value) => value.toLocaleString("en"));
export const many = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;
export const octets = orNone((value) => {
	const at = Math.min(UNITS.length - 1, Math.floor(Math.log2(value || 1) / 10));
	const shown = value / 1024 ** at;
	return `${shown.toFixed(at && shown < 10 ? 1 : 0)} ${UNITS[at]}`;
});
export const span = orNone((seconds) => {
	const [unit, size] = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]].find(([, size]) => seconds >= 2 * size) ?? ["s", 1];
	return `${(seconds / size).toFixed(seconds < 10 ? 1 : 0)} ${unit}`;
});
export const rate = orNone((value) => (value >= 10 || !value ? count(Math.round(value)) : value.toFixed(1)));
const moment = orNone((seconds) => new Date(seconds * 1000).toLocaleString("sv"));

const plain = (value) => String(value ?? "–") || "–";
const FORMS = { bytes: octets, memory: octets, pending: octets, uncommitted: octets, seconds: span, cpu: span, "due-in": span, due: moment, expires: moment };
Object.assign(FORMS, { persistent: (is) => (is ? "yes" : "no"), in: rate, out: rate, pid: plain, client: plain });

// A member of a row as people read it; or what a function makes of the row.
export function textOf(row, show) {
	if (typeof show === "function") return String(show(row));
	return (FORMS[show] ?? (typeof row[show] === "number" ? count : plain))(row[show]);
}

// -- names in the address of a view: any name, also one with lone surrogates

export const pack = (name) => name.replace(/[^\w.\-/$]/g, (unit) => "~" + unit.charCodeAt(0).toString(16).padStart(4, "0"));
export const unpack = (text) => text.replace(/~([0-9a-f]{4})/g, (_, unit) => String.fromCharCode(parseInt(unit, 16)));
export const queueLink = ({ name, queue = name }) => `#/queues/${pack(queue)}`;

// What people type is part of a name, unless it is a pattern already.
export const toPattern = (text) => (text && !/[*?[]/.test(text) ? `*${text}*` : text);
export const exactly = (name) => name.replace(/[*?[]/g, "[$&]");
// Headers, written as name:value.
export const toHeader = (line) => [...line.matchAll(/^\s*(.+?)\s*:\s*(.*?)\s*$/g)].map(([, name, value]) => [name, value]);
