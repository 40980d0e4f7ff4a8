// Novu's figures asked the way Novu's own Node sender asks them: mongoose models,
// estimatedDocumentCount() and two aggregates, all in parallel.
//
//   node sender.mjs MONGO_URL SINK_URL
//
// Each line on stdin is an order, each line on stdout its answer:
//   same     a new connection, the queries of otel-novu's round, closed again; milliseconds
//   novu     the same with the eight queries of Novu's own report; milliseconds
//   cycle N  N times `novu`, each with a POST of the report to SINK_URL; resident bytes after it
import { createInterface } from 'node:readline';
import { readFile } from 'node:fs/promises';
import mongoose from 'mongoose';

const [mongoUrl, sinkUrl] = process.argv.slice(2);
const options = { maxPoolSize: 10, autoIndex: false, autoCreate: false }; // MONGO_MAX_POOL_SIZE

const counted = {
  userCount: 'users',
  orgCount: 'organizations',
  workflowCount: 'notificationtemplates',
  eventCount: 'notifications',
  topicCount: 'topics',
  subscriberCount: 'subscribers',
};
const notDeleted = { $match: { deleted: { $ne: true } } };
const steps = [
  notDeleted,
  { $group: { _id: null, n: { $sum: { $cond: [{ $isArray: '$steps' }, { $size: '$steps' }, 0] } } } },
];
const providers = [notDeleted, { $group: { _id: '$providerId', count: { $sum: 1 } } }];

const schema = new mongoose.Schema({}, { strict: false, versionKey: false });
const model = (connection, collection) => connection.model(collection, schema, collection);

const ownQueries = (connection) => [
  ...Object.values(counted).map((name) => model(connection, name).estimatedDocumentCount()),
  model(connection, 'notificationtemplates').aggregate(steps),
  model(connection, 'integrations').aggregate(providers),
];

const furtherQueries = (connection) => {
  const second = Math.floor(Date.now() / 1000) - 60;
  const first = (at) => mongoose.Types.ObjectId.createFromTime(at);
  const hour = { _id: { $gte: first(second - 3600), $lt: first(second) } };
  return [
    connection.db.command({ hello: 1 }),
    connection.db.listCollections({}, { nameOnly: true }).toArray(),
    ...Object.values(counted).map((name) => model(connection, name).countDocuments(hour)),
  ];
};

const allQueries = (connection) => [...ownQueries(connection), ...furtherQueries(connection)];

async function ask(connection, queries) {
  const answers = await Promise.allSettled(queries(connection));
  const failed = answers.filter((answer) => answer.status === 'rejected');
  if (failed.length > 0) throw new Error(`${failed.length} queries failed: ${failed[0].reason.name}`);
  return answers.map((answer) => answer.value);
}

async function round(queries) {
  const connection = await mongoose.createConnection(mongoUrl, options).asPromise();
  try {
    return await ask(connection, queries);
  } finally {
    await connection.close();
  }
}

async function timed(work) {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

async function cycle(times) {
  for (let n = 0; n < times; n += 1) {
    const body = JSON.stringify({ figures: await round(ownQueries), timestamp: new Date() });
    const answer = await fetch(sinkUrl, { method: 'POST', body });
    await answer.arrayBuffer();
  }
  const status = await readFile('/proc/self/status', 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)[1]) * 1024;
}

const orders = {
  same: () => timed(() => round(allQueries)),
  novu: () => timed(() => round(ownQueries)),
  cycle: (times) => cycle(Number(times)),
};

for await (const line of createInterface({ input: process.stdin })) {
  const [order, argument] = line.trim().split(' ');
  console.log(await orders[order](argument));
}
