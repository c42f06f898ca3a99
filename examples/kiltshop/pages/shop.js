// The link of a page to the broker: ask services, and listen to topics. The client of STOMP is stompjs.
"use strict";

const ANSWERS = "/temp-queue/answers";
const waiting = new Map(); // requests without an answer, by number
let client;

// Connect, and again whenever the connection breaks. `begin` is called each time: it listens, and asks for what is there.
function connect(begin) {
  client = new StompJs.Client({
    brokerURL: BROKER,
    reconnectDelay: 1000,
    onConnect: () => {
      const unanswered = [...waiting.keys()];
      show("live");
      begin();
      // They may have been heard: each service takes a request that comes twice for one.
      unanswered.forEach(send);
    },
    onUnhandledMessage: (message) => {
      const answer = JSON.parse(message.body);
      const request = waiting.get(message.headers["correlation-id"]);
      waiting.delete(message.headers["correlation-id"]);
      if (answer.error) request?.reject(new Error(answer.error));
      else request?.resolve(answer);
    },
    onWebSocketClose: () => show("connecting…"),
    onStompError: (frame) => say(frame.body),
  });
  client.activate();
}

// Ask a service, as "orders.place", and promise its answer: also if the broker or the service is away for a while.
function ask(name, body = {}) {
  return new Promise((resolve, reject) => {
    const number = crypto.randomUUID();
    waiting.set(number, { name, body, resolve, reject });
    if (client.connected) send(number);
  });
}

function send(number) {
  const { name, body } = waiting.get(number);
  const headers = { persistent: "true", "reply-to": ANSWERS, "correlation-id": number };
  client.publish({ destination: `/queue/${name}`, body: JSON.stringify(body), headers });
}

// Call `take` with what is announced on a topic.
function listen(topic, take) {
  if (client.connected) client.subscribe(topic, (message) => take(JSON.parse(message.body)));
}

// A copy of a template; each element with data-field gets the text of that field.
function fill(template, fields) {
  const made = document.getElementById(template).content.firstElementChild.cloneNode(true);
  for (const element of made.querySelectorAll("[data-field]")) element.textContent = fields[element.dataset.field];
  made.querySelector(".swatch")?.setAttribute("data-tartan", fields.tartan);
  return made;
}

function say(text) {
  document.getElementById("said").textContent = text;
}

function show(state) {
  document.getElementById("link").textContent = state;
}
