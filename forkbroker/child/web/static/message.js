// A body as text, JSON or octets, and the pane that shows it. It is never anything but text.

import { button, close, el, octets } from "./dom.js";

const attempt = (work) => {
	try {
		return work();
	} catch {
		return null;
	}
};

function toOctets(row) {
	const base64 = row["body-base64"];
	return base64 === undefined ? new TextEncoder().encode(row.body) : Uint8Array.from(atob(base64), (unit) => unit.charCodeAt(0));
}

function toHex(bytes) {
	const lines = [];
	for (let at = 0; at < bytes.length; at += 16) {
		const some = [...bytes.subarray(at, at + 16)];
		const hex = some.map((value) => value.toString(16).padStart(2, "0")).join(" ");
		const signs = some.map((value) => (value > 31 && value < 127 ? String.fromCharCode(value) : ".")).join("");
		lines.push(`${at.toString(16).padStart(6, "0")}  ${hex.padEnd(47)}  ${signs}`);
	}
	return lines.join("\n");
}

// `row` has the body in one of three forms, and its size.
export function showBody(row) {
	const bytes = row.octets ?? toOctets(row);
	const text = attempt(() => new TextDecoder("utf-8", { fatal: true }).decode(bytes));
	const json = /^\s*[[{]/.test(text) ? attempt(() => JSON.stringify(JSON.parse(text), null, 2)) : null;
	const forms = { text: () => text, JSON: () => json, hex: () => toHex(bytes) };
	const place = el("pre.body", { tabIndex: 0, ariaLabel: "Body" });
	const tabs = el("div.tabs", { role: "group", ariaLabel: "Show the body as" });
	const choose = (name) => {
		place.textContent = forms[name]();
		for (const tab of tabs.children) tab.ariaPressed = String(tab.textContent === name);
	};
	const names = [text !== null && "text", json !== null && "JSON", "hex"].filter(Boolean);
	tabs.append(...names.map((name) => button(name, () => choose(name))));
	choose(json !== null ? "JSON" : text === null || /[\x00-\x08\x0e-\x1f]/.test(text) ? "hex" : "text");
	const size = `${row.bytes > bytes.length ? `the first ${octets(bytes.length)} of ` : ""}${octets(row.bytes)}`;
	return el("section", el("div.row", el("h3", "Body"), el("small", size), tabs), place);
}

// A pane beside a list, over it on a phone. `node` has both.
export class Pane {
	constructor(...list) {
		const onkeydown = (event) => event.key === "Escape" && this.close();
		this.pane = el("aside.pane", { ariaLabel: "Details", tabIndex: -1, hidden: true, onkeydown });
		this.node = el("div.parts", el("div.main-part", ...list), this.pane);
	}

	open(title, ...parts) {
		if (!this.pane.contains(document.activeElement)) this.opener = document.activeElement;
		this.pane.replaceChildren(el("div.row", el("h2", title), close(() => this.close())), ...parts);
		this.pane.hidden = false;
		this.pane.focus({ preventScroll: true });
	}

	close() {
		if (this.pane.hidden) return;
		this.pane.hidden = true;
		this.pane.replaceChildren();
		if (this.opener?.isConnected) this.opener.focus();
	}
}
