// Messages that wait for their time.

import { carryOut, confirm, did } from "./dialog.js";
import { count, filters, queueLink, span } from "./dom.js";
import { SORTED, Table, WIDE, link, number, text } from "./table.js";

export const title = "Scheduled";
export const needs = "schedule";

function repeats({ cron, period, repeat }) {
	if (cron) return `cron ${cron}`;
	return period ? `every ${span(period)}${repeat > 0 ? `, ${count(repeat)} more` : ""}` : "–";
}

export function open({ broker, scope }, head, place) {
	const load = async (page) => {
		const found = await broker.ask("schedule", page);
		await broker.learn(found.rows.map((row) => row.queue));
		return found;
	};
	const change = async (rows, verb, done) => {
		for (const queue of new Set(rows.map((row) => row.queue))) {
			const ids = rows.filter((row) => row.queue === queue).map((row) => row.id);
			await carryOut(broker.ask(verb, { queue, ids }), did(done));
		}
		table.turn();
	};
	const question = "Drop what is selected? It is not sent, and not repeated.";
	const cancel = async (rows) => (await confirm("Drop", question)) && change(rows, "schedule-cancel", "dropped");
	const table = new Table({
		scope,
		title,
		load,
		sort: "due",
		may: (row) => broker.can("manage", row.queue),
		actions: [
			["Run now", (rows) => change(rows, "schedule-run", "sent"), ".main"], ["Cancel…", cancel, ".danger"],
		],
		columns: [
			link("Queue", queueLink, SORTED), number("Due in", { sort: "due" }), text("Due at", WIDE, "due"),
			number("Messages", SORTED), text("Repeats", {}, repeats), text("Persistent", WIDE), text("Message", WIDE, "id"),
		],
	});
	place.append(filters(table.search("Queue"), table.bar), table.node);
}
