// The messages of one queue, page by page: look, and mend. Dead letters are such messages.

import { ask, carryOut, confirm, did } from "./dialog.js";
import { button, el, facts, filters, headersOf, many, search, select, toHeader } from "./dom.js";
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
		const all = (title, verb) => button(`${title} all that match…`, () => this.changeAll(verb), ".quiet");
		this.table = new Table({
			scope,
			title: "Messages",
			load: (page) => this.load(page),
			// only when asked: while the broker looks, nobody gets anything of the queue
			least: 1e9,
			may: () => this.mayManage,
			actions: this.actions,
			more: () => [isDead ? all("Retry", "retry") : all("Move", "move"), all("Discard", "rm")],
			columns: [
				link("Message", (row) => () => this.show(row), {}, "id"),
				...(isDead ? [text("Reason"), text("From", { name: "name" }, "origin"), text("Words", WIDE, "reject-reason")] : []),
				number("Deliveries", WIDE), number("Size", {}, "bytes"),
				text("Headers", { isWide: true, name: "preview" }, preview),
			],
		});
		const choose = (name) => (value) => this.table.choose(name, value);
		const header = (value) => this.table.choose("header", toHeader(value)[0] && Object.fromEntries(toHeader(value)));
		const row = filters(search("Header, as name:value", header), button("Look again", () => this.table.turn(), ".quiet"));
		if (isDead) row.prepend(select("Reason", "any reason", REASONS, choose("reason")), search("From queue", choose("origin")));
		this.pane = new Pane(row, this.table.bar, this.table.node);
		this.node = this.pane.node;
	}

	// Show this queue; so many wait there.
	open(queue, waiting) {
		const isOther = queue !== this.queue;
		Object.assign(this, { queue, waiting });
		if (isOther) this.table.turn(-this.table.offset);
		else this.table.poll.now();
	}

	get mayManage() {
		return this.broker.can("manage", this.queue);
	}

	get isAll() {
		return !Object.keys(this.table.chosen).length;
	}

	async load({ offset }) {
		if (this.queue === null) return null;
		const { queue, broker, table } = this;
		await broker.learn([queue]);
		const found = await broker.ask("show", { queue, ...table.chosen, offset, limit: PAGE + 1 }).catch((error) => {
			if (error.word !== "not-found") throw error;
			return { rows: [] };
		});
		if (queue !== this.queue) return null;
		const isMore = found.rows.length > PAGE;
		const rows = found.rows.slice(0, PAGE);
		return { rows, isMore, matched: isMore ? (this.isAll && this.waiting) || null : offset + rows.length };
	}

	async changeAll(verb) {
		const which = this.isAll ? { all: true } : this.table.chosen;
		const trial = { queue: this.queue, ...which, "dry-run": true };
		const found = await carryOut(this.broker.ask(verb === "move" ? "rm" : verb, trial));
		if (!found) return;
		const question = `Send ${many(found.count, "message")} back?`;
		if (verb !== "retry" || (await ask("Retry", question, [], "Retry"))) await this.change(verb, which, found.count);
	}

	async change(verb, which, size) {
		const messages = many(size, "message");
		let args = { queue: this.queue, ...which };
		if (verb === "rm" && !(await confirm("Discard", `Discard ${messages}?`))) return;
		if (verb === "move") {
			const to = { name: "to", label: "To the end of queue", value: "/queue/" };
			const answer = await ask(`Move ${messages}`, "", [to], "Move");
			if (!answer) return;
			args = { from: this.queue, ...answer, ...which };
		}
		await carryOut(this.broker.ask(verb, args), did(DONE[verb]));
		this.pane.close();
		this.table.turn();
	}

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
