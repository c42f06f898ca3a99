// Clients: who is connected, what they have, and who is to go.

import { ask, carryOut } from "./dialog.js";
import { button, el, facts, many, queueLink } from "./dom.js";
import { Pane } from "./message.js";
import { BOTH, SORTED, Table, WIDE, link, number, text } from "./table.js";

export const title = "Clients";
export const needs = "who";

export function open({ broker, scope }, head, place, wanted) {
	let [shown, isFirst] = [null, true];
	const mayKick = broker.may("kick");

	const load = async (page) => {
		const found = await broker.ask("who", { use: true, ...page });
		const row = isFirst && found.rows.find((one) => String(one.client) === wanted);
		isFirst = false;
		if (row) show(row);
		return found;
	};
	const kick = async (rows) => {
		const warning = "What they have not settled goes back to its queue. Clients that reconnect by themselves come again.";
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
		load,
		key: (row) => row.client,
		sort: "client",
		empty: "No such client.",
		may: () => mayKick,
		actions: [["Disconnect…", kick, ".danger"]],
		columns: [
			link("Client", "client", (row) => () => show(row), SORTED),
			text("Login", "login", SORTED),
			text("Address", "address", SORTED),
			text("Host", "host", WIDE),
			number("Connected", "seconds", BOTH),
			number("Queues", "queues", BOTH),
			number("Unsettled", "unsettled", SORTED),
			number("Pending", "pending", BOTH),
			number("CPU", "cpu", BOTH),
			number("Memory", "memory", BOTH),
		],
	});
	const toDestination = ({ destination: queue }) => (/^.(queue|dsub)/.test(queue) ? queueLink({ queue }) : "#/topics");
	const subscribed = new Table({
		scope,
		title: "Subscriptions",
		key: (row, at) => `${at} ${row.destination}`,
		empty: "No subscription.",
		least: 5000,
		load: async (page) => shown && broker.may("subscriptions") && broker.ask("subscriptions", { ...page, client: shown }),
		columns: [link("Destination", "destination", toDestination), number("Prefetch", "prefetch"), number("Unsettled", "unsettled")],
	});
	const show = (row) => {
		shown = row.client;
		const kickIt = mayKick && button("Disconnect…", () => kick([row]), ".danger");
		pane.open(`Client ${row.client}`, el("div.row.actions", kickIt), facts(row), el("h3", "Subscriptions"), subscribed.node);
		subscribed.turn(-subscribed.offset);
	};
	const pane = new Pane(el("div.row.filters", table.search("Login or address"), table.bar), table.node);
	place.append(pane.node);
}
