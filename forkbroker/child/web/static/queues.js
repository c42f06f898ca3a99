// Queues: what waits where, sorted and filtered by the broker; and one queue, with what can be done to it.

import { ask, askTarget, carryOut, confirm, did } from "./dialog.js";
import { block, button, count, el, exactly, makeTiles, many, queueLink, rate, select, setText, span, toHeader } from "./dom.js";
import { Messages } from "./messages.js";
import { Plot, rates } from "./plot.js";
import { BOTH, SORTED, Table, WIDE, link, number, text } from "./table.js";

export const title = "Queues";
export const needs = "queues";

const FILTERS = ["waiting", "stuck", "delayed", "held", "blocked", "dead-letters", "durable"];
const age = (row) => (row["oldest-before-start"] ? "> " : "") + span(row.oldest);

function stateOf({ held, blocked, waiting, consumers, topic }) {
	const found = [held && "held", blocked && `${count(blocked)} blocked`, waiting && !consumers && "no consumer", topic];
	return found.filter(Boolean).join(" · ");
}

export function open(context, head, place, name) {
	if (name) return openOne(context, head, place, name);
	const { broker, scope } = context;
	const seen = new Map();
	const load = async (page) => {
		const found = await broker.ask("queues", page);
		const before = new Map(seen);
		seen.clear();
		for (const row of found.rows) {
			const last = before.get(row.name);
			[row.in, row.out] = rates(row, last);
			row.plot = last?.plot ?? new Plot(["in", "out"]);
			if (last) row.plot.add(row.in, row.out);
			seen.set(row.name, row);
		}
		return found;
	};
	const fill = (cell, { plot }) => cell.firstChild === plot.node || cell.replaceChildren(plot.node);
	const table = new Table({
		scope,
		title,
		load,
		key: (row) => row.name,
		sort: "waiting",
		reverse: true,
		empty: "No queue is of this sort.",
		columns: [
			link("Queue", "name", queueLink, SORTED),
			text("State", stateOf, { name: "state-of" }),
			number("Waiting", "waiting", SORTED),
			number("Unsettled", "unsettled", BOTH),
			number("Delayed", "delayed", BOTH),
			number("Consumers", "consumers", SORTED),
			number("Oldest", age, { ...WIDE, sort: "oldest" }),
			number("In/s", "in", WIDE),
			number("Out/s", "out", WIDE),
			{ title: "Rate", fill, ...WIDE },
			number("Size", "bytes", BOTH),
		],
	});
	table.chosen.temporary = false;
	const onchange = ({ target }) => table.choose("temporary", target.checked);
	const temporary = el("label.tick", el("input", { type: "checkbox", onchange }), "temporary");
	const filter = select("Which queues", "all queues", FILTERS, (value) => table.choose("filter", value));
	place.append(el("div.row.filters", table.search("Name, or a pattern with * and ?"), filter, temporary), table.node);
	return undefined;
}

// -- one queue

function openOne({ broker, scope }, head, place, queue) {
	const [tiles, fillTiles] = makeTiles([
		["Waiting", "waiting"],
		["Unsettled", "unsettled"],
		["Delayed", "delayed"],
		["Consumers", "consumers"],
		["Oldest", age],
		["Size", "bytes"],
		["In memory", "memory"],
		["On disk only", "paged"],
	]);
	const flow = new Plot(["in/s", "out/s"], rate);
	const depth = new Plot(["waiting", "unsettled"], count);
	const actions = el("div.row.actions");
	const state = el("span.state-of");
	let [last, messages, shown] = [null, null, ""];

	const show = (row) => {
		fillTiles(row);
		if (row.at > last?.at + 0.5) flow.add(...rates(row, last));
		depth.add(row.waiting, row.unsettled);
		last = row;
		setText(state, stateOf(row));
		showActions();
	};
	const showActions = () => {
		const [held, mayManage] = [last?.held, broker.can("manage", queue)];
		const mayWrite = broker.can("write", queue) && !queue.startsWith("/dsub/");
		if (shown === `${held} ${mayManage} ${mayWrite}`) return;
		shown = `${held} ${mayManage} ${mayWrite}`;
		const turn = held ? button("Release", () => act("release", { queue }, () => "It delivers again."), ".main") : button("Hold…", hold);
		const found = mayManage ? [turn, button("Move all…", move), button("Purge…", purge, ".danger")] : [];
		if (mayWrite) found.push(button("Send a message…", () => sendMessage(broker, queue).then(again)));
		actions.replaceChildren(...found);
	};
	const again = () => {
		scan.now();
		messages?.table.turn();
	};
	const act = (verb, args, tell) => carryOut(broker.ask(verb, args), tell).then(again);
	const all = () => `all ${many(last?.waiting ?? 0, "message")} that wait`;
	const hold = async () => {
		const field = { name: "seconds", label: "For so many seconds", hint: "Empty: until it is released, or the broker ends." };
		const answer = await ask("Hold", "The queue takes messages and delivers none, until it is released.", [field], "Hold");
		if (answer) await act("hold", { queue, for: answer.seconds && Number(answer.seconds) }, () => "The queue is held.");
	};
	const purge = async () => (await confirm("Purge", `Discard ${all()} in ${queue}?`)) && act("purge", { queue }, did("discarded"));
	const move = async () => {
		const to = await askTarget(`Move ${all()}`);
		if (to) await act("move", { from: queue, to, all: true }, did("moved"));
	};

	const consumers = new Table({
		scope,
		title: "Consumers",
		key: (row, at) => `${at} ${row.client}`,
		empty: "No consumer.",
		least: 5000,
		load: async (page) => broker.may("subscriptions") && broker.ask("subscriptions", { ...page, pattern: exactly(queue) }),
		columns: [
			link("Client", "client", (row) => `#/clients/${row.client}`),
			text("Login", "login"),
			text("Address", "address", WIDE),
			text("Acknowledges", "ack", WIDE),
			number("Prefetch", "prefetch"),
			number("Unsettled", "unsettled"),
		],
	});
	const inside = block("Messages");
	const look = () => {
		messages = new Messages({ broker, scope });
		inside.replaceChildren(inside.firstChild, messages.node);
		messages.open(queue, last?.waiting);
	};
	inside.append(el("div.row", button("Look inside", look), el("small", "The messages stay where they are, and are not marked.")));
	head.replaceChildren(el("a", { href: "#/queues" }, title), el("span.dim", "/"), el("h1", queue), state);
	place.append(actions, tiles, el("div.plots", flow.node, depth.node), inside, block("Consumers", consumers.node));

	const scan = scope.poll(async () => {
		await broker.learn([queue]);
		const { rows } = await broker.ask("queues", { pattern: exactly(queue), limit: 1 });
		if (rows[0]) return show(rows[0]);
		fillTiles(null);
		setText(state, "does not exist");
		return showActions();
	}, 30000);
	const lookOften = () => (scan.least = 2000);
	// a name with a wildcard would be a pattern there
	if (/[*#>]/.test(queue)) lookOften();
	else scope.listen(`/topic/$SYS/queues${queue}`, "monitor", (message) => show(JSON.parse(message.body)), lookOften);
}

async function sendMessage(broker, value) {
	const fields = [
		{ name: "to", label: "Destination", value },
		{ name: "lines", label: "Headers, a name:value on each line", kind: "textarea" },
		{ name: "body", label: "Body", kind: "textarea" },
		{ name: "persistent", label: "persistent", type: "checkbox" },
	];
	const answer = await ask("Send a message", "", fields, "Send");
	if (!answer) return;
	const { to, lines, body, persistent } = answer;
	const headers = Object.fromEntries([["persistent", String(persistent)], ...lines.split("\n").flatMap(toHeader)]);
	await carryOut(broker.send(to, headers, body), () => `Sent to ${to}.`);
}
