// The broker as a whole: its store, its memory, its processes.

import { block, count, el, makeTiles, octets, pack, setText, span } from "./dom.js";
import { Plot } from "./plot.js";
import { SORTED, Table, number, text } from "./table.js";

export const title = "Health";
export const needs = "status";

export function open({ broker, scope }, head, place) {
	const about = el("p.dim");
	const alarm = el("span.alarm", { role: "status" });
	const [tiles, fillTiles] = makeTiles([
		["Clients"], ["Queues"], ["Durable subscriptions", "durables"],
		["Waiting"], ["Unsettled"], ["Delayed"], ["Size", "bytes"], ["Not committed", "uncommitted"],
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
		fillTiles({ ...now, ...messages, ...store });
		depth.add(messages.waiting, messages.unsettled);
		const passed = last && now.seconds - last.seconds;
		if (passed > 0) flow.add(...["received", "sent"].map((way) => Math.max(0, now.octets[way] - last.octets[way]) / passed));
		meter.value = memory.used / memory.limit;
		setText(meterText, `${octets(memory.used)} of ${octets(memory.limit)} of memory`);
		last = now;
	};
	const processes = new Table({
		scope,
		title: "Processes",
		sort: "memory",
		reverse: true,
		least: 5000,
		load: async (page) => broker.may("processes") && broker.ask("processes", { use: true, ...page }),
		columns: [text("Role", SORTED), number("PID", SORTED), number("CPU", SORTED), number("Memory", SORTED)],
	});

	head.append(alarm, el("a", { href: `#/topics/${pack("/topic/$SYS/events/>")}` }, "Events"));
	place.append(about, tiles, el("div.row", meter, meterText), el("div.plots", flow.node, depth.node));
	place.append(block("Processes", processes.node));
	scope.poll(async () => show(await broker.ask("status")), 10000);
	scope.listen("/topic/$SYS/status", (message) => show(JSON.parse(message.body)));
}
