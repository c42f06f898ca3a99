// Elements and figures. Nothing here takes HTML: whatever a client has sent becomes the text of a node, and no more.

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
export const setText = (node, text) => node.textContent === text || (node.textContent = text);

// `act` gets the word that is chosen; "" is all.
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

// Figures with their names: pairs of a name, and a member of a row or a function of it. The node, and what shows a row.
export function makeTiles(pairs) {
	const values = pairs.map(() => el("dd", "–"));
	const show = (row) => pairs.forEach(([, how], at) => setText(values[at], row ? textOf(row, how) : "–"));
	return [el("dl.tiles", ...pairs.map(([name], at) => el("div", el("dt", name), values[at]))), show];
}

// Members and their values; those without a value, and those with members of their own, are left out.
export function facts(row, show = textOf) {
	const names = Object.keys(row).filter((name) => row[name] !== "" && typeof row[name] !== "object");
	return el("dl", ...names.flatMap((name) => [el("dt", name), el("dd", show(row, name))]));
}
// Headers, as they are.
export const headersOf = (headers) => facts(headers, (row, name) => row[name]);

// -- figures

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
const orNone = (show) => (value) => (value === null || value === undefined ? "–" : show(value));

export const count = orNone((value) => value.toLocaleString("en"));
export const many = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;
export const octets = orNone((value) => {
	let at = 0;
	for (; value >= 1024 && at < UNITS.length - 1; at += 1) value /= 1024;
	return `${at && value < 10 ? value.toFixed(1) : Math.round(value)} ${UNITS[at]}`;
});
export const span = orNone((seconds) => {
	if (seconds < 10) return `${seconds.toFixed(1)} s`;
	if (seconds < 120) return `${Math.round(seconds)} s`;
	if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
	return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
});
export const rate = orNone((value) => (value >= 10 || !value ? count(Math.round(value)) : value.toFixed(1)));
// As 2026-11-27 17:35:23, here.
export const moment = orNone((seconds) => new Date(seconds * 1000).toLocaleString("sv"));

const yesNo = (value) => (value ? "yes" : "no");
const plain = (value) => String(value ?? "–") || "–";
const FORMS = { bytes: octets, memory: octets, pending: octets, seconds: span, cpu: span, oldest: span, "due-in": span };
Object.assign(FORMS, { due: moment, expires: moment, persistent: yesNo, exclusive: yesNo, in: rate, out: rate, pid: plain, client: plain });

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
// The name and the value of a header, written as name:value; none: it is none.
export const toHeader = (line) => [...line.matchAll(/^\s*(.+?)\s*:\s*(.*?)\s*$/g)].map(([, name, value]) => [name, value]);
