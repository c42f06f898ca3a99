// The page: which view is shown, who is logged in, and whether the broker is there.

import { Broker, Scope } from "./broker.js";
import { makeForm, note, submit } from "./dialog.js";
import { button, el, setText, unpack } from "./dom.js";
import * as dead from "./dead.js";
import * as queues from "./queues.js";
import * as clients from "./clients.js";
import * as topics from "./topics.js";
import * as schedule from "./schedule.js";
import * as health from "./health.js";

const VIEWS = { dead, queues, clients, topics, schedule, health };
const [content, nav, state, login, skip] = ["content", "nav", "state", "login", "skip"].map((id) => document.getElementById(id));
let scope = null;
let hasBegun = false;

const broker = new Broker({
	state(text, isUp) {
		setText(state, text);
		state.className = `state ${text}`;
		if (!isUp) return scope?.setActive(false);
		setText(login, broker.rights.login);
		if (hasBegun) return scope?.setActive(!document.hidden);
		hasBegun = true;
		return go();
	},
	failed: (text) => note(text, true),
	refused: (text) => askLogin(`The broker says: ${text}.`),
});

function leave() {
	scope?.setActive(false);
	scope = null;
}

function enter(credentials) {
	content.replaceChildren(el("p.empty", "Connecting…"));
	broker.connect(credentials);
}

function askLogin(problem, isOptional = false) {
	hasBegun = false;
	leave();
	nav.replaceChildren();
	setText(state, "not logged in");
	const fields = [
		{ name: "login", label: "Login", autocomplete: "username", autocapitalize: "none", required: true },
		{ name: "passcode", label: "Passcode", type: "password", autocomplete: "current-password" },
	];
	const without = isOptional && button("Without a login", () => enter({}));
	const [form, focus] = makeForm("Log in", problem, fields, [without, submit("Log in")], enter);
	content.replaceChildren(el("div.login", form));
	focus();
}

function go() {
	if (!hasBegun) return;
	leave();
	const [, wanted, ...rest] = location.hash.split("/");
	const allowed = Object.keys(VIEWS).filter((name) => broker.may(VIEWS[name].needs));
	nav.replaceChildren(...allowed.map((name) => el("a", { href: `#/${name}`, ariaCurrent: name === wanted ? "page" : "false" }, VIEWS[name].title)));
	if (!allowed.length) {
		content.replaceChildren(el("p.empty", "To see something here, the right monitor for /control/> is needed."));
	} else if (!allowed.includes(wanted)) location.replace(`#/${allowed[0]}`);
	else {
		const { title, open } = VIEWS[wanted];
		document.title = `${title} – forkbroker`;
		scope = new Scope(broker);
		const head = el("div.row.head", el("h1", title));
		const place = el(`div.view.${wanted}`, head);
		content.replaceChildren(place);
		open({ broker, scope }, head, place, unpack(rest.join("/")) || null);
		scope.setActive(broker.isUp && !document.hidden);
	}
}

addEventListener("hashchange", () => {
	go();
	content.focus({ preventScroll: true });
});
document.addEventListener("visibilitychange", () => scope?.setActive(broker.isUp && !document.hidden));
skip.addEventListener("click", () => content.focus());

// The broker says whether it lets clients in without a login.
const about = await fetch("about.json").then((answer) => answer.json());
if (about.login === "none") enter({});
else askLogin("", about.login === "optional");
