// Novu's figures asked the way Novu's own Node sender asks them: mongoose models,
// estimatedDocumentCount() and two aggregates, all side by side, a figure that fails being null.
//
//   node sender.mjs MONGO_URL SINK_URL
//
// Each line on stdin is an order, each answer a line on stdout:
//   all      one connection, the questions of otel-novu's round, closed again; milliseconds
//   own      the same with the eight questions that Novu's sender asks; milliseconds
//   open     the eight questions over a connection that is open already; milliseconds
//   cycle N  N times `own`, each with a POST of the report to SINK_URL; resident bytes after it
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

const ownQuestions = (connection) => [
  ...Object.values(counted).map((name) => model(connection, name).estimatedDocumentCount()),
  model(connection, 'notificationtemplates').aggregate(steps),
  model(connection, 'integrations').aggregate(providers),
];

const furtherQuestions = (connection) => {
  const second = Math.floor(Date.now() / 1000) - 60;
  const first = (at) => mongoose.Types.ObjectId.createFromTime(at);
  const hour = { _id: { $gte: first(second - 3600), $lt: first(second) } };
  return [
    connection.db.command({ hello: 1 }),
    connection.db.listCollections({}, { nameOnly: true }).toArray(),
    ...Object.values(counted).map((name) => model(connection, name).countDocuments(hour)),
  ];
};

const allQuestions = (connection) => [...ownQuestions(connection), ...furtherQuestions(connection)];

async function ask(connection, questions) {
  const answers = await Promise.allSettled(questions(connection));
  const failed = answers.filter((answer) => answer.status === 'rejected');
  if (failed.length > 0) throw new Error(`${failed.length} questions failed: ${failed[0].reason.name}`);
  return answers.map((answer) => answer.value);
}

async function round(questions) {
  const connection = await mongoose.createConnection(mongoUrl, options).asPromise();
  try {
    return await ask(connection, questions);
  } finally {
    await connection.close();
  }
}

async function timed(work) {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

let kept;

async function askOverOpen() {
  kept ??= await mongoose.createConnection(mongoUrl, options).asPromise();
  return timed(() => ask(kept, ownQuestions));
}

async function cycle(times) {
  for (let n = 0; n < times; n += 1) {
    const body = JSON.stringify({ figures: await round(ownQuestions), timestamp: new Date() });
    const answer = await fetch(sinkUrl, { method: 'POST', body });
    await answer.arrayBuffer();
  }
  const status = await readFile('/proc/self/status', 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)[1]) * 1024;
}

const orders = {
  all: () => timed(() => round(allQuestions)),
  own: () => timed(() => round(ownQuestions)),
  open: askOverOpen,
  cycle: (times) => cycle(Number(times)),
};

for await (const line of createInterface({ input: process.stdin })) {
  const [order, argument] = line.trim().split(' ');
  console.log(await orders[order](argument));
}
await kept?.close();
