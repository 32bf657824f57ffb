// A Cosmos DB on loopback: @vercel/cosmosdb-server with its gaps closed.
// node cosmos_emulator.js --package DIR --port 8081 [--key BASE64] [--advertise http://127.0.0.1:PORT/]
"use strict";
const crypto = require("crypto");
const path = require("path");
const { AsyncLocalStorage } = require("async_hooks");

const option = (name, otherwise) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? otherwise : process.argv[at + 1];
};
const host = option("host", "127.0.0.1");
const port = Number(option("port", "8081"));
const key = option("key", null);
const advertised = option("advertise", `http://${host}:${port}/`);
const load = (name) => require(path.join(option("package"), "lib", name));

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

function notFound(response) {
  response.statusCode = 404;
  return { code: "NotFound", message: "Entity with the specified id does not exist in the system." };
}

function partitionOf(request) {
  try {
    const value = JSON.parse(request.headers["x-ms-documentdb-partitionkey"]);
    return Array.isArray(value) ? value : [value];
  } catch {
    return undefined;
  }
}

function isIn(collection, partition) {
  const valueAt = (document, keyPath) =>
    keyPath.slice(1).split("/").reduce((value, step) => (value == null ? undefined : value[step]), document);
  return (document) => {
    const values = collection.documents._partitionKeyPath.map((keyPath) => valueAt(document, keyPath));
    return values.slice(0, partition.length).every((value, i) => same(value === undefined ? {} : value, partition[i]));
  };
}

// A missing document is 404 (else 500), and If-None-Match may be answered by 304.
const reading = load("handler/read-document");
const read = reading.default;
reading.default = (account, request, response, names) => {
  const collection = account.database(names.dbId).collection(names.collId);
  if (!collection.read()) return notFound(response);
  const partition = partitionOf(request);
  const value = partition && (partition[0] !== null && typeof partition[0] === "object" ? names.docId : partition[0]);
  const document = collection.document(names.docId, value).read();
  if (!document || (partition && !isIn(collection, partition)(document))) return notFound(response);
  if (request.headers["if-none-match"] && request.headers["if-none-match"] === document._etag) {
    response.statusCode = 304;
    return undefined;
  }
  return read(account, request, response, names);
};

// A query with a partition key sees that partition only (else: refused, or all partitions).
const querying = load("handler/query-documents");
const query = querying.default;
const Items = load("account/items").default;
const itemsQuery = Items.prototype.query;
const visible = new AsyncLocalStorage();
querying.default = (account, request, response, names) => {
  const collection = account.database(names.dbId).collection(names.collId);
  const partition = partitionOf(request);
  if (!partition || !partition.length || !collection.read()) return query(account, request, response, names);
  request.headers["x-ms-documentdb-query-enablecrosspartition"] = "true";
  return visible.run(isIn(collection, partition), () => query(account, request, response, names));
};
Items.prototype.query = function (parameters, options) {
  const keep = visible.getStore();
  if (!keep) return itemsQuery.call(this, parameters, options);
  const view = Object.create(this);
  view._data = new Map([...this._data].filter(([, item]) => keep(item.read())));
  return itemsQuery.call(view, parameters, options);
};

// A user-defined function that is replaced keeps its new body (else it is lost).
const Functions = load("account/user-defined-functions").default;
for (const name of ["replace", "upsert"]) {
  const original = Functions.prototype[name];
  Functions.prototype[name] = function (definition) {
    const answer = original.call(this, definition);
    this.functions[definition.id] = new Function(`"use strict";return (${definition.body})`)();
    return answer;
  };
}

// A transactional batch is all or nothing.
const batching = load("handler/batch-documents");
const documents = load("handler/_document-operations");
const patches = load("handler/_patch-operations");
const readJson = load("json").default;
const OPERATIONS = {
  Create: documents.createOperation,
  Upsert: documents.upsertOperation,
  Read: documents.readOperation,
  Delete: documents.deleteOperation,
  Replace: documents.replaceOperation,
  Patch: (collection, item) =>
    patches.patchOperation(collection, {
      ...item,
      operations: item.resourceBody.operations,
      condition: item.resourceBody.condition,
    }),
};
batching.default = async (account, request, response, names) => {
  const items = await readJson(request);
  const collection = account.database(names.dbId).collection(names.collId);
  if (!collection.read()) return notFound(response);
  const partitionKey = request.headers["x-ms-documentdb-partitionkey"];
  const kept = collection.documents;
  const before = [new Map(kept._data), new Map(kept._index)];
  const answers = [];
  for (const item of items) {
    const run = OPERATIONS[item.operationType];
    if (!run) {
      response.statusCode = 400;
      return { message: "unsupported operation" };
    }
    const answer = run(collection, { ...item, partitionKey });
    if (answer.statusCode >= 400) {
      [kept._data, kept._index] = before;
      response.statusCode = 207;
      const failed = answers.length;
      return items.map((_, i) => ({ statusCode: i === failed ? answer.statusCode : 424, requestCharge: 0 }));
    }
    answers.push({
      statusCode: answer.statusCode,
      requestCharge: 1,
      eTag: answer.body && answer.body._etag,
      resourceBody: answer.body,
    });
  }
  return answers;
};

// It announces itself by http, or as the proxy in front of it, so that endpoint discovery works.
const Account = load("account").default;
const describe = Account.prototype.read;
Account.prototype.read = function () {
  const about = { ...describe.call(this) };
  for (const name of ["writableLocations", "readableLocations"])
    about[name] = about[name].map((location) => ({ ...location, databaseAccountEndpoint: advertised }));
  return about;
};

function isSigned(request) {
  const signature = /^type=master&ver=1.0&sig=(.*)$/.exec(decodeURIComponent(request.headers.authorization || ""));
  const steps = decodeURIComponent(request.url.split("?")[0]).split("/").filter(Boolean);
  const feed = steps.length % 2 === 1;
  const type = (feed ? steps[steps.length - 1] : steps[steps.length - 2]) || "";
  const link = (feed ? steps.slice(0, -1) : steps).join("/");
  const date = (request.headers["x-ms-date"] || "").toLowerCase();
  const text = `${request.method.toLowerCase()}\n${type.toLowerCase()}\n${link}\n${date}\n\n`;
  const wanted = crypto.createHmac("sha256", Buffer.from(key, "base64")).update(text).digest("base64");
  return signature !== null && signature[1] === wanted;
}

const server = load("index").createHttpServer({ keepAlive: true, keepAliveTimeout: 60000 });
if (key) {
  const [handle] = server.listeners("request");
  server.removeAllListeners("request");
  server.on("request", (request, response) => {
    if (isSigned(request)) return handle(request, response);
    request.resume();
    response.statusCode = 401;
    response.setHeader("content-type", "application/json");
    return response.end(
      JSON.stringify({ code: "Unauthorized", message: "The input authorization token can't serve the request." }),
    );
  });
}
server.listen(port, host, () => console.log(`Cosmos DB on ${advertised}`));
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => process.exit(0));
