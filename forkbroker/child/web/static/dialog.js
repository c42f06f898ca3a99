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
	const inputs = fields.map(({ label, hint, kind = "input", ...props }) => el(kind, { autocomplete: "off", spellcheck: false, rows: 5, ...props }));
	const made = fields.map(({ label, hint, type }, at) => el(`label.${type}`, el("span", label), inputs[at], hint && el("small", hint)));
	const onsubmit = (event) => {
		event.preventDefault();
		act(Object.fromEntries(inputs.map(({ name, type, checked, value }) => [name, type === "checkbox" ? checked : value])));
	};
	const form = el("form", { onsubmit }, el("h2", title), text && el("p", text), ...made, el("div.row.end", ...actions));
	return [form, () => (inputs[0] ?? form.querySelector("[type=submit]")).focus()];
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
