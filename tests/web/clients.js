// Clients of STOMP over WebSocket in node, each by its own library: node clients.js MODULES NAME URL
// Each sends itself a message with text beyond ASCII and settles it, and prints what has come as JSON.

const { createRequire } = require("node:module");

const [modules, name, url] = process.argv.slice(2);
const load = createRequire(`${modules}/package.json`);
globalThis.WebSocket = load("ws");
const queue = `/queue/${name}`;
const body = "grüße\n\"quoted\"";

function print(result) {
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

function fail(reason) {
  process.stderr.write(`${name}: ${reason}\n`);
  process.exit(1);
}

const clients = {
  stompjs() {
    const { Client } = load("@stomp/stompjs");
    const client = new Client({ brokerURL: url, reconnectDelay: 0, onStompError: (frame) => fail(frame.body) });
    client.onConnect = (connected) => {
      client.subscribe(queue, (message) => {
        message.ack({ receipt: "ack" });
        client.watchForReceipt("ack", async () => {
          await client.deactivate();
          print({ version: connected.headers.version, body: message.body });
        });
      }, { ack: "client-individual" });
      client.publish({ destination: queue, body, headers: { "x-key": "a:b" } });
    };
    client.activate();
  },

  // A thousand messages of a batch, and a body that is no text.
  stompjs_batch() {
    const { Client } = load("@stomp/stompjs");
    const client = new Client({ brokerURL: url, reconnectDelay: 0, onStompError: (frame) => fail(frame.body) });
    let count = 0;
    client.onConnect = () => {
      client.subscribe(queue, async (message) => {
        count += 1;
        if (message.headers.last) {
          await client.deactivate();
          print({ count, octets: [...message.binaryBody] });
        }
      });
      for (let number = 0; number < 1000; number += 1) {
        client.publish({ destination: queue, body: `${number}` });
      }
      client.publish({ destination: queue, binaryBody: Uint8Array.of(0, 255, 10), headers: { last: "1" } });
    };
    client.activate();
  },

  // Comes back by itself when the broker is there again, and has its subscription then.
  rx_stomp() {
    const { RxStomp } = load("@stomp/rx-stomp");
    const client = new RxStomp();
    client.configure({ brokerURL: url, reconnectDelay: 200 });
    let times = 0;
    client.connected$.subscribe(() => {
      times += 1;
      if (times === 1) {
        print({ connected: true });
      } else {
        client.publish({ destination: queue, body });
      }
    });
    client.watch({ destination: queue }).subscribe(async (message) => {
      await client.deactivate();
      print({ times, body: message.body });
    });
    client.activate();
  },

  webstomp() {
    const webstomp = load("webstomp-client");
    const client = webstomp.client(url, { debug: false, protocols: webstomp.VERSIONS.supportedProtocols() });
    client.connect({}, (connected) => {
      client.subscribe(queue, (message) => {
        message.ack();
        client.disconnect(() => print({ version: connected.headers.version, body: message.body }));
      }, { ack: "client-individual" });
      client.send(queue, body, {});
    }, (error) => fail(error.body || error.reason || error));
  },
};

clients[name]();
