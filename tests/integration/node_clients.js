// Writes 100 numbers with one client of Node.js and prints each that was acknowledged.
// Usage: node node_clients.js KIND host:port host:port ...
'use strict';

const [kind, ...addresses] = process.argv.slice(2);
const nodes = addresses.map((address) => {
  const [host, port] = address.split(':');
  return { host, port: Number(port) };
});
const urls = addresses.map((address) => ({ url: `redis://${address}` }));

async function connect() {
  if (kind === 'ioredis cluster') {
    const { Cluster } = require('ioredis');
    const client = new Cluster(nodes);
    client.on('error', () => {});
    return client;
  }
  if (kind === 'ioredis sentinel') {
    const Redis = require('ioredis');
    const client = new Redis({
      sentinels: nodes,
      name: process.env.SENTINEL_NAME,
      // What ioredis offers for a master that has changed.
      reconnectOnError: (error) => (/^(MOVED|READONLY)/.test(error.message) ? 2 : false),
    });
    client.on('error', () => {});
    return client;
  }
  const redis = require('redis');
  const client = kind === 'node-redis cluster'
    ? redis.createCluster({ rootNodes: urls })
    : redis.createClient(urls[0]);
  client.on('error', () => {});
  await client.connect();
  return client;
}

async function main() {
  const client = await connect();
  const pause = () => new Promise((done) => setTimeout(done, 20));
  for (let number = 0; number < 100;) {
    try {
      if (await client.set('node', String(number)) === 'OK') {
        console.log(number);
        number += 1;
      }
    } catch (error) {
      console.log(`error ${error.message}`);
      await pause();
    }
  }
  console.log(`value ${await client.get('node')}`);
  process.exit(0);
}

main();
