// The broker as a whole: its store, its memory, its processes, and what happens.

import { block, count, el, makeTiles, many, moment, octets, setText, span } from "./dom.js";
import { Plot } from "./plot.js";
import { SORTED, Table, number, text } from "./table.js";

export const title = "Health";
export const needs = "status";

const EVENTS_KEPT = 100;

export function open({ broker, scope }, head, place) {
	const about = el("p.dim");
	const alarm = el("span.alarm", { role: "status" });
	const [tiles, fillTiles] = makeTiles([
		["Clients", "clients"],
		["Queues", "queues"],
		["Durable subscriptions", "durables"],
		["Waiting", ({ messages }) => count(messages.waiting)],
		["Unsettled", ({ messages }) => count(messages.unsettled)],
		["Delayed", ({ messages }) => count(messages.delayed)],
		["Size", ({ messages }) => octets(messages.bytes)],
		["Not committed", ({ store }) => octets(store.uncommitted)],
	]);
	const flow = new Plot(["received", "sent"], (value) => `${octets(value)}/s`);
	const depth = new Plot(["waiting", "unsettled"], count);
	const meter = el("meter", { ariaLabel: "Memory of messages" });
	const meterText = el("span");
	let last = null;

	const show = (now) => {
		const { store, messages, memory, phase } = now;
		setText(about, `forkbroker ${now.version} · process ${now.pid} · up ${span(now.seconds)} · listening on ${now.listening.join(", ")}`);
		const refusal = store.refuses || (!store.open && "it is being restarted");
		const problems = [phase !== "running" && `The broker is ${phase}.`, refusal && `The store takes nothing: ${refusal}.`];
		const problem = problems.filter(Boolean).join(" ");
		setText(alarm, problem || "All is well.");
		alarm.className = problem ? "alarm bad" : "alarm good";
		fillTiles(now);
		depth.add(messages.waiting, messages.unsettled);
		const passed = last && now.seconds - last.seconds;
		if (passed > 0) flow.add(...["received", "sent"].map((way) => Math.max(0, now.octets[way] - last.octets[way]) / passed));
		meter.value = memory.used / memory.limit;
		setText(meterText, `${octets(memory.used)} of ${octets(memory.limit)} of memory for messages`);
		last = now;
	};
	const processes = new Table({
		scope,
		title: "Processes",
		key: (row) => row.pid,
		sort: "memory",
		reverse: true,
		empty: "You do not have the right to see them.",
		least: 5000,
		load: async (page) => (broker.may("processes") ? broker.ask("processes", { use: true, ...page }) : { rows: [], matched: 0 }),
		columns: [text("Role", "role", SORTED), number("PID", "pid", SORTED), number("CPU", "cpu", SORTED), number("Memory", "memory", SORTED)],
	});

	const none = el("p.empty", "Nothing has happened since this page was opened.");
	const events = el("ol.tail", { ariaLabel: "Events" });
	const showEvent = ({ event, time, missed, ...rest }) => {
		none.hidden = true;
		const told = Object.entries(rest).map(([name, value]) => `${name} ${value}`);
		if (missed) told.push(`${many(missed, "event")} before it left out`);
		events.prepend(el("li", el("time", moment(time).slice(11)), el("b", event), el("span.preview", told.join(" · "))));
		while (events.children.length > EVENTS_KEPT) events.lastChild.remove();
	};

	head.append(alarm);
	place.append(about, tiles, el("div.row", meter, meterText), el("div.plots", flow.node, depth.node));
	place.append(block("Events", none, events), block("Processes", processes.node));
	const scan = scope.poll(async () => show(await broker.ask("status")), 1e9);
	const listen = (topic, hear, denied) => scope.listen(`/topic/$SYS/${topic}`, "monitor", (message) => hear(JSON.parse(message.body)), denied);
	listen("status", show, () => (scan.least = 2000));
	listen("events/>", showEvent);
}
