// Clients: who is connected, what they have, and who is to go.

import { ask, carryOut } from "./dialog.js";
import { button, el, facts, filters, many, queueLink } from "./dom.js";
import { Pane } from "./message.js";
import { BOTH, SORTED, Table, WIDE, link, number, text } from "./table.js";

export const title = "Clients";
export const needs = "who";

export function open({ broker, scope }, head, place, wanted) {
	let shown;
	const mayKick = broker.may("kick");
	const kick = async (rows) => {
		const warning = "What they have not settled goes back to its queue.";
		const field = { name: "reason", label: "Reason, which the client is told" };
		const answer = await ask(`Disconnect ${many(rows.length, "client")}`, warning, [field], "Disconnect", ".danger");
		if (!answer) return;
		for (const who of rows.map((row) => String(row.client))) await carryOut(broker.ask("kick", { who, ...answer }), () => `Client ${who} is disconnected.`);
		pane.close();
		table.turn();
	};
	const table = new Table({
		scope,
		title,
		load: (page) => broker.ask("who", { use: true, ...page }),
		sort: "client",
		may: () => mayKick,
		actions: [["Disconnect…", kick, ".danger"]],
		columns: [
			link("Client", (row) => () => show(row), SORTED), text("Login", SORTED), text("Address", SORTED),
			text("Host", WIDE), number("Connected", BOTH, "seconds"), number("Queues", BOTH), number("Unsettled", SORTED),
			number("Pending", BOTH), number("CPU", BOTH), number("Memory", BOTH),
		],
	});
	const toDestination = ({ destination: queue }) => (/^.(queue|dsub)/.test(queue) ? queueLink({ queue }) : "#/topics");
	const subscribed = new Table({
		scope,
		title: "Subscriptions",
		least: 5000,
		load: async (page) => shown && broker.may("subscriptions") && broker.ask("subscriptions", { ...page, client: shown }),
		columns: [link("Destination", toDestination), number("Prefetch"), number("Unsettled")],
	});
	const show = (row) => {
		shown = row.client;
		const kickIt = mayKick && button("Disconnect…", () => kick([row]), ".danger");
		pane.open(`Client ${row.client}`, el("div.row.actions", kickIt), facts(row), el("h3", "Subscriptions"), subscribed.node);
		subscribed.turn(-subscribed.offset);
	};
	const pane = new Pane(filters(table.search("Login or address", wanted), table.bar), table.node);
	place.append(pane.node);
}
