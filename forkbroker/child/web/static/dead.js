// Dead letters: why, where from, and back again.

import { count, el, pack } from "./dom.js";
import { Messages } from "./messages.js";

export const title = "Dead letters";
export const needs = "queues";

export function open({ broker, scope }, head, place, wanted) {
	const messages = new Messages({ broker, scope }, true);
	const links = el("span.row");
	head.append(links);
	place.append(messages.node);
	let seen = "";
	scope.poll(async () => {
		const { rows } = await broker.ask("queues", { filter: "dead-letters", limit: 200 });
		const queue = rows.find((row) => row.name === wanted) ?? rows.find((row) => row.waiting) ?? rows[0];
		const name = queue?.name ?? wanted ?? "/queue/DLQ";
		const now = JSON.stringify([name, ...rows.map((row) => [row.name, row.entered, row.left])]);
		if (now === seen) return;
		seen = now;
		const make = (row) => el("a", { href: `#/dead/${pack(row.name)}`, ariaCurrent: String(row === queue) }, `${row.name} ${count(row.waiting)}`);
		links.replaceChildren(...rows.map(make));
		messages.open(name, queue?.waiting ?? 0);
	}, 3000);
}
