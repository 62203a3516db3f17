// One client of Node.js: uses each type, then counts until standard input ends.
// Usage: node node_clients.js KIND KEY host:port host:port ...
// Prints `types`, then for each call `ok NUMBER` or `error NAME: TEXT`; last `read VALUE`.
'use strict';

const assert = require('node:assert');

const [kind, key, ...addresses] = process.argv.slice(2);
const [library, mode = 'plain'] = kind.split(' ');
const nodes = addresses.map((address) => {
  const [host, port] = address.split(':');
  return { host, port: Number(port) };
});
const urls = addresses.map((address) => ({ url: `redis://${address}` }));
// Nothing is sent a second time, so that a call is one request and can be counted.
const once = { autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 0 };

async function connectIoredis() {
  const { Redis, Cluster } = require('ioredis');
  let client;
  if (mode === 'cluster') {
    client = new Cluster(nodes, { retryDelayOnFailover: 0, redisOptions: once });
  } else if (mode === 'sentinel') {
    client = new Redis({ sentinels: nodes, name: process.env.SENTINEL_NAME, ...once });
  } else {
    client = new Redis({ ...nodes[0], ...once });
  }
  client.on('error', () => {});
  await new Promise((done) => client.once('ready', done));
  return client;
}

async function connectNodeRedis() {
  const redis = require('redis');
  const makers = {
    // Otherwise it asks for the new leader after 5 s.
    cluster: () => redis.createCluster({
      rootNodes: urls, topologyRefreshOnReconnectionAttemptStrategy: 100,
    }),
    sentinel: () => redis.createSentinel({
      name: process.env.SENTINEL_NAME, sentinelRootNodes: nodes, maxCommandRediscovers: 0,
    }),
    plain: () => redis.createClient(urls[0]),
  };
  const client = makers[mode]();
  client.on('error', () => {});
  await client.connect();
  return client;
}

async function scanned(iterator) {
  const found = [];
  for await (const page of iterator) found.push(...(Array.isArray(page) ? page : [page]));
  return found;
}

async function useEveryTypeOfIoredis(client) {
  const name = (part) => `{${key}}:${part}`;
  assert.strictEqual(await client.set(name('t'), 'hello', 'EX', 100), 'OK');
  assert.strictEqual(await client.get(name('t')), 'hello');
  assert.ok(await client.ttl(name('t')) > 0);
  await client.hset(name('h'), { a: '1', b: '2' });
  assert.deepStrictEqual({ ...await client.hgetall(name('h')) }, { a: '1', b: '2' });
  await client.rpush(name('l'), 'one', 'two');
  assert.deepStrictEqual(await client.lrange(name('l'), 0, -1), ['one', 'two']);
  assert.deepStrictEqual(await client.blpop(name('l'), 1), [name('l'), 'one']);
  assert.strictEqual(await client.blpop(name('none'), 0.05), null);
  await client.sadd(name('s'), 'x', 'y');
  assert.deepStrictEqual((await client.smembers(name('s'))).sort(), ['x', 'y']);
  await client.zadd(name('z'), 1.5, 'low', 20, 'high');
  assert.deepStrictEqual(await client.zrange(name('z'), 0, -1), ['low', 'high']);
  const replies = await client.pipeline().incr(name('p')).incr(name('p')).exec();
  assert.deepStrictEqual(replies, [[null, 1], [null, 2]]);
  const scanning = mode === 'cluster' ? client.nodes('master')[0] : client;
  const keys = await scanned(scanning.scanStream({ match: `{${key}}:*` }));
  assert.strictEqual(new Set(keys).size, 6);
  assert.strictEqual((await scanned(client.hscanStream(name('h')))).length, 4);
}

async function useEveryTypeOfNodeRedis(client) {
  const name = (part) => `{${key}}:${part}`;
  assert.strictEqual(await client.set(name('t'), 'hello', { EX: 100 }), 'OK');
  assert.strictEqual(await client.get(name('t')), 'hello');
  assert.ok(await client.ttl(name('t')) > 0);
  await client.hSet(name('h'), { a: '1', b: '2' });
  assert.deepStrictEqual({ ...await client.hGetAll(name('h')) }, { a: '1', b: '2' });
  await client.rPush(name('l'), ['one', 'two']);
  assert.deepStrictEqual(await client.lRange(name('l'), 0, -1), ['one', 'two']);
  assert.deepStrictEqual({ ...await client.blPop(name('l'), 1) }, { key: name('l'), element: 'one' });
  assert.strictEqual(await client.blPop(name('none'), 0.05), null);
  await client.sAdd(name('s'), ['x', 'y']);
  assert.deepStrictEqual([...await client.sMembers(name('s'))].sort(), ['x', 'y']);
  await client.zAdd(name('z'), [{ score: 1.5, value: 'low' }, { score: 20, value: 'high' }]);
  assert.deepStrictEqual(
    (await client.zRangeWithScores(name('z'), 0, -1)).map((one) => [one.value, one.score]),
    [['low', 1.5], ['high', 20]],
  );
  assert.deepStrictEqual(
    await Promise.all([client.incr(name('p')), client.incr(name('p'))]),
    [1, 2],
  );
  if (mode === 'plain') {
    const keys = await scanned(client.scanIterator({ MATCH: `{${key}}:*` }));
    assert.strictEqual(new Set(keys).size, 6);
    assert.strictEqual((await scanned(client.hScanIterator(name('h')))).length, 2);
  } else {
    assert.strictEqual((await client.hScan(name('h'), '0')).entries.length, 2);
  }
}

async function main() {
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const isIoredis = library === 'ioredis';
  const client = await (isIoredis ? connectIoredis() : connectNodeRedis());
  const useEveryType = isIoredis ? useEveryTypeOfIoredis : useEveryTypeOfNodeRedis;
  for (let used = false; !used;) {
    try {
      for (const part of 'thlszp') await client.del(`{${key}}:${part}`);
      await useEveryType(client);
      used = true;
    } catch (error) {
      // A busy machine may lose its leader; anything else is a defect.
      if (!/^(UNKNOWN|NOTAPPLIED|CLUSTERDOWN|Connection)/.test(error.message)) throw error;
      await pause(10);
    }
  }
  console.log('types');
  let counting = true;
  process.stdin.on('end', () => { counting = false; });
  process.stdin.resume();
  while (counting) {
    try {
      console.log(`ok ${await client.incr(key)}`);
    } catch (error) {
      console.log(`error ${error.constructor.name}: ${error.message.replaceAll('\n', ' ')}`);
      await pause(10);
    }
    await pause(10);
  }
  console.log(`read ${await client.get(key)}`);
  process.exit(0);
}

main();
