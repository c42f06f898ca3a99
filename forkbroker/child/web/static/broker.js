// The connection: STOMP over WebSocket, requests to /control/ and their answers, and what a view listens to.

const REPLIES = "/temp-queue/admin";
// What takes the broker long is asked for less often: a fifth of its time at most.
const SHARE = 5;

// `word`: the error of an answer; or "lost", without a connection.
const makeError = (text, word) => Object.assign(new Error(text), { word });
const lost = () => makeError("there is no connection to the broker", "lost");

export class Broker {
	open = new Map();
	last = 0;
	known = new Map();

	// `told`: state(text, isUp), refused(text), failed(text)
	constructor(told) {
		this.told = told;
	}

	connect(connectHeaders) {
		const url = new URL("../ws", location.href);
		url.protocol = url.protocol.replace("http", "ws");
		const client = new StompJs.Client({
			brokerURL: url.href,
			connectHeaders,
			reconnectDelay: 3000,
			onConnect: () => this.begin().catch((error) => this.told.failed(error.message)),
			onStompError: (frame) => this.hearError(frame),
			onWebSocketClose: (event) => client === this.client && this.lose(event),
			onUnhandledMessage: (message) => this.hear(message),
		});
		this.client = client;
		this.told.state("connecting", false);
		client.activate();
	}

	async begin() {
		this.isUp = true;
		this.known.clear();
		this.rights = await this.ask("rights");
		this.told.state("connected", true);
	}

	hearError({ headers: { message }, body }) {
		if (!/^(login failed|host refused)$/.test(message)) return this.told.failed(body.trim() || message);
		this.client.deactivate();
		this.client = null;
		return this.told.refused(message);
	}

	lose({ reason }) {
		if (this.isUp && reason) this.told.failed(reason);
		this.isUp = false;
		for (const { refuse } of this.open.values()) refuse(lost());
		this.open.clear();
		this.told.state("reconnecting", false);
	}

	publish(number, frame) {
		return new Promise((answer, refuse) => {
			this.open.set(number, { answer, refuse, rows: [] });
			if (this.isUp) this.client.publish(frame);
			else refuse(lost());
		});
	}

	// The result of a verb; of one that lists: its rows, and how many there would be.
	ask(verb, args = {}) {
		const number = String(++this.last);
		return this.publish(number, {
			destination: `/control/${verb}`,
			headers: { "reply-to": REPLIES, "correlation-id": number },
			body: JSON.stringify(args, (name, value) => (value === "" ? undefined : value)),
		});
	}

	hear({ headers, body }) {
		// what comes by another way is no answer, whatever it says
		const number = headers["correlation-id"];
		const asked = headers.subscription === REPLIES && this.open.get(number);
		if (!asked) return;
		const part = JSON.parse(body);
		asked.rows.push(...(part.rows ?? []));
		if (part.more) return;
		this.open.delete(number);
		if (!part.ok) asked.refuse(makeError(part.text, part.error));
		else asked.answer(part.result ?? { rows: asked.rows, matched: part.matched ?? asked.rows.length });
	}

	// Resolves when the broker has the message.
	send(destination, headers, body) {
		const receipt = `sent-${++this.last}`;
		this.client.watchForReceipt(receipt, () => {
			this.open.get(receipt).answer();
			this.open.delete(receipt);
		});
		return this.publish(receipt, { destination, headers: { ...headers, receipt }, body });
	}

	// What is to be shown: the broker checks each request itself.
	may(verb) {
		return this.rights.verbs.includes(verb);
	}

	async learn(names) {
		const unknown = [...new Set(names)].filter((name) => !this.known.has(name));
		if (!unknown.length) return;
		const { destinations } = await this.ask("rights", { destinations: unknown });
		// one that was written in another way is told by its own name
		const other = unknown.length === 1 ? Object.values(destinations)[0] : [];
		for (const name of unknown) this.known.set(name, destinations[name] ?? other);
	}

	can(right, name) {
		return this.known.get(name)?.includes(right) ?? false;
	}
}

// What the visible view needs: it rests while the tab is hidden or the connection lost.
export class Scope {
	parts = new Set();
	isActive = false;

	constructor(broker) {
		this.broker = broker;
	}

	setActive(isActive) {
		if (isActive === this.isActive) return;
		this.isActive = isActive;
		for (const part of this.parts) isActive ? part.begin() : part.end();
	}

	add(part) {
		this.parts.add(part);
		if (this.isActive) part.begin();
		return part;
	}

	drop(part) {
		part.end();
		this.parts.delete(part);
	}

	// Do this now and again, `least` ms after its end. `now` does it at once, or behind what is under way.
	poll(work, least = 2000) {
		let timer, isRunning, isOn, isWanted;
		const now = async () => {
			clearTimeout(timer);
			isWanted = true;
			if (isRunning || !isOn) return;
			isRunning = true;
			isWanted = false;
			const begun = performance.now();
			await work().catch((error) => {
				if (!error.word) throw error;
				if (error.word !== "lost") this.broker.told.failed(error.message);
			});
			isRunning = false;
			const wait = isWanted ? 0 : Math.max(least, SHARE * (performance.now() - begun));
			if (isOn) timer = setTimeout(now, wait);
		};
		const begin = () => now((isOn = true));
		const end = () => clearTimeout(timer, (isOn = false));
		return this.add({ now, begin, end });
	}

	// Hear messages of a topic, if the user may; else `denied` is called.
	listen(destination, hear, denied) {
		const right = destination.startsWith("/topic/$SYS/") ? "monitor" : "read";
		let subscription, isOn;
		return this.add({
			begin: async () => {
				isOn = true;
				await this.broker.learn([destination]).catch(() => {});
				if (!isOn || subscription || !this.broker.isUp) return;
				if (this.broker.can(right, destination)) subscription = this.broker.client.subscribe(destination, hear);
				else denied?.();
			},
			end: () => {
				isOn = false;
				if (this.broker.isUp) subscription?.unsubscribe();
				subscription = null;
			},
		});
	}
}
