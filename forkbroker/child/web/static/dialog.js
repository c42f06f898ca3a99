// Questions, and notes of what has happened. Escape closes a question: nothing is done then.

import { button, close, el, many } from "./dom.js";

export function note(text, isError = false) {
	const place = document.getElementById("notes");
	const node = el(isError ? "div.note.error" : "div.note", { role: isError ? "alert" : "status" }, el("span", text));
	node.append(close(() => node.remove()));
	while (place.children.length > 3) place.firstChild.remove();
	place.append(node);
	setTimeout(() => node.remove(), isError ? 15000 : 5000);
}

// A form with fields: { name, label, hint, kind: "textarea" }, and properties of the input. `act` gets their values.
export function makeForm(title, text, fields, actions, act) {
	const inputs = fields.map(({ name, label, hint, kind, ...props }) => [name, el(kind ?? "input", { autocomplete: "off", spellcheck: false, rows: 5, ...props })]);
	const made = fields.map(({ label, hint }, at) => el(inputs[at][1].type === "checkbox" ? "label.tick" : "label.field", el("span", label), inputs[at][1], hint && el("small", hint)));
	const onsubmit = (event) => {
		event.preventDefault();
		act(Object.fromEntries(inputs.map(([name, { type, checked, value }]) => [name, type === "checkbox" ? checked : value])));
	};
	const form = el("form", { onsubmit }, el("h2", title), text && el("p", text), ...made, el("div.row.end", ...actions));
	return [form, () => (inputs[0]?.[1] ?? form.querySelector("[type=submit]")).focus()];
}

export const submit = (title, kind = ".main") => el(`button${kind}`, { type: "submit" }, title);

// The values of some fields; null if the question is closed.
export function ask(title, text, fields, action, kind) {
	return new Promise((resolve) => {
		const cancel = button("Cancel", () => dialog.close(), ".quiet");
		const [form, focus] = makeForm(title, text, fields, [cancel, submit(action, kind)], (values) => {
			resolve(values);
			dialog.close();
		});
		const onclose = () => {
			dialog.remove();
			resolve(null);
		};
		const dialog = el("dialog", { ariaLabel: title, onclose }, form);
		document.body.append(dialog);
		dialog.showModal();
		focus();
	});
}

export const confirm = (title, text) => ask(title, `${text} This cannot be undone.`, [], title, ".danger");

export async function askTarget(title) {
	const field = { name: "to", label: "To queue", value: "/queue/" };
	return (await ask(title, "They go to the end of another queue.", [field], "Move"))?.to.trim();
}

// What has become of messages.
export const did = (what) => (result) => {
	const left = result["left-out"];
	const rest = left ? ` ${many(left, "message")} left: ${result["left-out-reason"]}.` : "";
	return `${many(result.count, "message")} ${what}.${rest}`;
};

// Do what was asked for, and tell what has come of it; null if it was refused.
export async function carryOut(work, tell) {
	try {
		const result = await work;
		if (tell) note(tell(result));
		return result;
	} catch (error) {
		if (!error.word) throw error;
		note(error.message, true);
		return null;
	}
}
