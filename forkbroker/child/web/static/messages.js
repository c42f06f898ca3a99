// The messages of one queue, page by page: look at them, and mend. Dead letters are such messages.

import { ask, askTarget, carryOut, confirm, did } from "./dialog.js";
import { button, el, facts, headersOf, many, search, select, toHeader } from "./dom.js";
import { Pane, showBody } from "./message.js";
import { PAGE, Table, WIDE, link, number, text } from "./table.js";

const REASONS = ["rejected", "deliveries", "expired", "limit", "poison"];
const DONE = { retry: "sent back", move: "moved", rm: "discarded" };

function preview({ headers }) {
	const some = Object.entries(headers).filter(([name]) => !/^(destination|content-length)$/.test(name));
	return some.slice(0, 4).map((pair) => pair.join(": ")).join(" · ");
}

export class Messages {
	queue = null;

	constructor({ broker, scope }, isDead = false) {
		this.broker = broker;
		const each = (verb) => (rows) => this.change(verb, { ids: rows.map((row) => row.id) }, rows.length);
		this.actions = [["Move…", each("move")], ["Discard…", each("rm"), ".danger"]];
		if (isDead) this.actions.unshift(["Retry", each("retry"), ".main"]);
		const badge = (cell, row) => cell.firstChild || cell.append(el("span.badge", row.reason ?? "–"));
		const all = (title, verb) => button(`${title} all that match…`, () => this.changeAll(verb), ".quiet");
		this.table = new Table({
			scope,
			title: isDead ? "Dead letters" : "Messages that wait",
			empty: isDead ? "No dead letters." : "No message waits.",
			key: (row) => row.id,
			load: (page) => this.load(page),
			// once, and when asked: to look through a queue is work, and nobody gets anything of it meanwhile
			least: 1e9,
			may: () => this.mayManage,
			actions: this.actions,
			more: () => [isDead ? all("Retry", "retry") : all("Move", "move"), all("Discard", "rm")],
			columns: [
				link("Message", "id", (row) => () => this.show(row)),
				...(isDead ? [{ title: "Reason", fill: badge }, text("From", "origin", { name: "name" })] : []),
				number("Deliveries", "deliveries", WIDE),
				number("Size", "bytes"),
				text("Headers", preview, { isWide: true, name: "preview" }),
			],
		});
		const choose = (name) => (value) => this.table.choose(name, value);
		const header = (value) => this.table.choose("header", toHeader(value)[0] && Object.fromEntries(toHeader(value)));
		const filters = el("div.row.filters", search("Header, as name:value", header), button("Look again", () => this.table.poll.now(), ".quiet"));
		if (isDead) filters.prepend(select("Reason", "any reason", REASONS, choose("reason")), search("From queue", choose("origin")));
		this.pane = new Pane(filters, this.table.bar, this.table.node);
		this.node = this.pane.node;
	}

	// Show this queue, in which so many wait.
	open(queue, waiting) {
		const isOther = queue !== this.queue;
		Object.assign(this, { queue, waiting });
		this.table.turn(isOther ? -this.table.offset : 0);
	}

	get mayManage() {
		return this.broker.can("manage", this.queue);
	}

	get filters() {
		return Object.fromEntries(Object.entries(this.table.chosen).filter(([, value]) => value));
	}

	async load({ offset }) {
		if (this.queue === null) return null;
		const { queue, filters, broker } = this;
		await broker.learn([queue]);
		const found = await broker.ask("show", { queue, ...filters, offset, limit: PAGE + 1 }).catch((error) => {
			if (error.word === "not-found") return { rows: [] };
			throw error;
		});
		if (queue !== this.queue) return null;
		const isMore = found.rows.length > PAGE;
		const rows = found.rows.slice(0, PAGE);
		const isAll = !Object.keys(filters).length;
		return { rows, isMore, matched: isMore ? (isAll && this.waiting) || null : offset + rows.length };
	}

	// -- what can be done

	async changeAll(verb) {
		const which = Object.keys(this.filters).length ? this.filters : { all: true };
		const trial = { queue: this.queue, ...which, "dry-run": true };
		const found = await carryOut(this.broker.ask(verb === "move" ? "rm" : verb, trial));
		if (!found) return;
		const question = `Send ${many(found.count, "dead letter")} back to where they came from?`;
		if (verb !== "retry" || (await ask("Retry", question, [], "Retry"))) await this.change(verb, which, found.count);
	}

	async change(verb, which, size) {
		const messages = many(size, "message");
		let args = { queue: this.queue, ...which };
		if (verb === "rm" && !(await confirm("Discard", `Discard ${messages}?`))) return;
		if (verb === "move") {
			const to = await askTarget(`Move ${messages}`);
			if (!to) return;
			args = { from: this.queue, to, ...which };
		}
		await carryOut(this.broker.ask(verb, args), did(DONE[verb]));
		this.pane.close();
		this.table.turn();
	}

	// -- one message

	async show(row) {
		const body = el("p.empty", "Loading the body…");
		const buttons = this.mayManage ? this.actions.map(([title, act, kind]) => button(title, () => act([row]), kind)) : [];
		this.pane.open("Message", el("div.row.actions", ...buttons), facts(row), el("h3", "Headers"), headersOf(row.headers), body);
		const found = await carryOut(this.broker.ask("show", { queue: this.queue, ids: [row.id], body: true }));
		const [whole] = found?.rows ?? [];
		if (whole) body.replaceWith(showBody(whole));
		else body.textContent = "The message does not wait any more.";
	}
}
