// Queues: what waits where; and one queue, with what can be done to it.

import { ask, carryOut, confirm, did } from "./dialog.js";
import { block, button, count, el, exactly, filters, makeTiles, many, pack, queueLink, rate, select, setText, span, toHeader } from "./dom.js";
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
		sort: "waiting",
		reverse: true,
		columns: [
			link("Queue", queueLink, SORTED, "name"), text("State", { name: "state-of" }, stateOf),
			number("Waiting", SORTED), number("Unsettled", BOTH), number("Delayed", BOTH), number("Consumers", SORTED),
			number("Oldest", { ...WIDE, sort: "oldest" }, age), number("In/s", WIDE, "in"), number("Out/s", WIDE, "out"),
			{ title: "Rate", fill, ...WIDE },
			number("Size", BOTH, "bytes"),
		],
	});
	table.chosen.temporary = false;
	const onchange = ({ target }) => table.choose("temporary", target.checked);
	const temporary = el("label.tick", el("input", { type: "checkbox", onchange }), "temporary");
	const filter = select("Filter", "all queues", FILTERS, (value) => table.choose("filter", value));
	place.append(filters(table.search("Name, or a pattern with * and ?"), filter, temporary), table.node);
}

function openOne({ broker, scope }, head, place, queue) {
	const [tiles, fillTiles] = makeTiles([
		["Waiting"], ["Unsettled"], ["Delayed"], ["Consumers"], ["Oldest", age], ["Size", "bytes"], ["In memory", "memory"],
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
		const found = mayManage ? [turn, button("Purge…", purge, ".danger")] : [];
		if (mayWrite) found.push(button("Send a message…", () => sendMessage(broker, queue).then(again)));
		actions.replaceChildren(...found);
	};
	const again = () => {
		scan.now();
		messages?.table.turn();
	};
	const act = (verb, args, tell) => carryOut(broker.ask(verb, args), tell).then(again);
	const hold = async () => {
		const field = { name: "seconds", label: "Seconds", hint: "Empty: until it is released." };
		const answer = await ask("Hold", "The queue takes messages and delivers none.", [field], "Hold");
		if (answer) await act("hold", { queue, for: answer.seconds && Number(answer.seconds) }, () => "The queue is held.");
	};
	const purge = async () => {
		const question = `Discard all ${many(last?.waiting ?? 0, "message")}?`;
		if (await confirm("Purge", question)) await act("purge", { queue }, did("discarded"));
	};

	const consumers = new Table({
		scope,
		title: "Consumers",
		least: 5000,
		load: async (page) => broker.may("subscriptions") && broker.ask("subscriptions", { ...page, pattern: exactly(queue) }),
		columns: [
			link("Client", (row) => `#/clients/${pack(row.address)}`), text("Login"), text("Address", WIDE),
			text("Acknowledges", WIDE, "ack"), number("Prefetch"), number("Unsettled"),
		],
	});
	const inside = block("Messages");
	const look = () => {
		messages = new Messages({ broker, scope });
		inside.replaceChildren(inside.firstChild, messages.node);
		messages.open(queue, last?.waiting);
	};
	inside.append(el("div.row", button("Look inside", look), el("small", "They stay there.")));
	head.replaceChildren(el("a", { href: "#/queues" }, title), el("span.dim", "/"), el("h1", queue), state);
	place.append(actions, tiles, el("div.plots", flow.node, depth.node), inside, block("Consumers", consumers.node));

	const scan = scope.poll(async () => {
		await broker.learn([queue]);
		const { rows } = await broker.ask("queues", { pattern: exactly(queue), limit: 1 });
		if (rows[0]) return show(rows[0]);
		fillTiles(null);
		setText(state, "does not exist");
		return showActions();
	}, 10000);
	// a name with a wildcard would be a pattern there
	if (!/[*#>]/.test(queue)) scope.listen(`/topic/$SYS/queues${queue}`, (message) => show(JSON.parse(message.body)));
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
