// Topics: who listens to what; and the messages of one, as they come.

import { note } from "./dialog.js";
import { button, count, el, filters, headersOf, octets, pack, setText } from "./dom.js";
import { Pane, showBody } from "./message.js";
import { SORTED, Table, link, number } from "./table.js";

export const title = "Topics";
export const needs = "topics";

const KEPT = 200;
const MOST_A_SECOND = 500;
const SHOWN = 65536;

export function open({ broker, scope }, head, place, wanted) {
	const table = new Table({
		scope,
		title,
		sort: "subscribers",
		reverse: true,
		least: 3000,
		load: (page) => broker.ask("topics", page),
		columns: [
			link("Topic or pattern", (row) => `#/topics/${pack(row.name)}`, SORTED, "name"), number("Subscribers", SORTED),
			number("Durable subscriptions", SORTED, "durables"),
		],
	});
	place.append(makeTail(scope, wanted), filters(table.search("Name, or a pattern with * and ?")), table.node);
}

function makeTail(scope, wanted) {
	const input = el("input.grow", { value: wanted ?? "", placeholder: "/topic/orders.*", ariaLabel: "Topic to follow", spellcheck: false });
	const toggle = el("button.main", { type: "submit" }, "Follow");
	const state = el("small", { role: "status" });
	const list = el("ol.tail", { ariaLabel: "Messages" });
	const pane = new Pane(list);
	const waiting = [];
	let [total, inSecond, second] = [0, 0, 0];
	let drawing, part;

	const draw = () => {
		drawing = 0;
		list.prepend(...waiting.splice(0).reverse().map(makeLine));
		while (list.children.length > KEPT) list.lastChild.remove();
		setText(state, `${count(total)} received`);
	};
	const makeLine = ({ at, headers, bytes }) => {
		const show = () => pane.open("Message", headersOf({ received: at, ...headers }), showBody({ octets: bytes.subarray(0, SHOWN), bytes: bytes.length }));
		const start = new TextDecoder().decode(bytes.subarray(0, 300)).replace(/\s+/g, " ");
		return el("li", el("time", at), button(headers.destination, show, ".link"), el("span.preview", start), el("small", octets(bytes.length)));
	};
	const hear = ({ headers, binaryBody }) => {
		const now = Math.floor(Date.now() / 1000);
		inSecond = now === second ? inSecond + 1 : 1;
		second = now;
		total += 1;
		if (inSecond > MOST_A_SECOND) stop(`Stopped: these are more than ${MOST_A_SECOND} messages in a second.`);
		waiting.push({ at: new Date().toLocaleTimeString("sv"), headers, bytes: binaryBody });
		if (waiting.length > KEPT) waiting.shift();
		drawing ||= requestAnimationFrame(draw);
	};
	const stop = (why) => {
		if (part && why) note(why, true);
		if (part) scope.drop(part);
		part = null;
		setText(toggle, "Follow");
	};
	const start = () => {
		setText(toggle, "Stop");
		setText(state, "listening");
		part = scope.listen(wanted, hear, () => stop(`You do not have the right to read ${wanted}.`));
	};
	const onsubmit = (event) => {
		event.preventDefault();
		const name = input.value.trim();
		const full = name.startsWith("/") ? name : `/topic/${name}`;
		if (part) stop();
		else if (full === wanted) start();
		else if (name) location.hash = `#/topics/${pack(full)}`;
	};
	if (wanted) start();
	return el("section", el("form.row.filters", { onsubmit }, input, toggle, state), pane.node);
}
