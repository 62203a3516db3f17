"""The facts of every command, as text: two lines for each, read by command_table.

First line, separated by `|` (a subcommand is written `container/subcommand`):
name, arity as in Redis (negative: at least), flags, positions of the first and
last key and the step between keys, group, first version of Redis (of raftkv for
our own) that knows it, complexity, flags of its keys. Second line: what it does.

A test compares arity, flags and key positions with a real redis-server.
"""

from __future__ import annotations

# Commands of the store; their parsers are in handlers_strings and handlers_generic.
DATA_COMMANDS = """
set|-3|write denyoom|1 1 1|string|1.0.0|O(1)|RW access update variable_flags
    Set a key to a string, with an optional condition and time to live
get|2|readonly fast|1 1 1|string|1.0.0|O(1)|RO access
    Return the string at a key
del|-2|write|1 -1 1|generic|1.0.0|O(N)|RM delete
    Delete keys
unlink|-2|write fast|1 -1 1|generic|4.0.0|O(1)|RM delete
    Delete keys (the same as DEL here)
exists|-2|readonly fast|1 -1 1|generic|1.0.0|O(N)|RO
    Count how many of the keys exist
mget|-2|readonly fast|1 -1 1|string|1.0.0|O(N)|RO access
    Return the strings at several keys
mset|-3|write denyoom|1 -1 2|string|1.0.1|O(N)|OW update
    Set several keys at once
msetnx|-3|write denyoom|1 -1 2|string|1.0.1|O(N)|OW insert
    Set several keys if none of them exists
setnx|3|write denyoom fast|1 1 1|string|1.0.0|O(1)|OW insert
    Set a key if it does not exist
setex|4|write denyoom|1 1 1|string|2.0.0|O(1)|OW update
    Set a key and its time to live in seconds
psetex|4|write denyoom|1 1 1|string|2.6.0|O(1)|OW update
    Set a key and its time to live in milliseconds
getset|3|write denyoom fast|1 1 1|string|1.0.0|O(1)|RW access update
    Set a key and return its old string
getdel|2|write fast|1 1 1|string|6.2.0|O(1)|RW access delete
    Return the string at a key and delete the key
getex|-2|write fast|1 1 1|string|6.2.0|O(1)|RW access update
    Return the string at a key and change its time to live
strlen|2|readonly fast|1 1 1|string|2.2.0|O(1)|RO
    Return the length of a string in bytes
append|3|write denyoom fast|1 1 1|string|2.0.0|O(1)|RW insert
    Append to the string at a key
getrange|4|readonly|1 1 1|string|2.4.0|O(N)|RO access
    Return a part of a string
substr|4|readonly|1 1 1|string|1.0.0|O(N)|RO access
    Return a part of a string (old name of GETRANGE)
setrange|4|write denyoom|1 1 1|string|2.2.0|O(1)|RW update
    Overwrite a part of a string
incr|2|write denyoom fast|1 1 1|string|1.0.0|O(1)|RW access update
    Add one to the integer at a key
decr|2|write denyoom fast|1 1 1|string|1.0.0|O(1)|RW access update
    Subtract one from the integer at a key
incrby|3|write denyoom fast|1 1 1|string|1.0.0|O(1)|RW access update
    Add to the integer at a key
decrby|3|write denyoom fast|1 1 1|string|1.0.0|O(1)|RW access update
    Subtract from the integer at a key
incrbyfloat|3|write denyoom fast|1 1 1|string|2.6.0|O(1)|RW access update
    Add to the decimal number at a key
expire|-3|write fast|1 1 1|generic|1.0.0|O(1)|RW update
    Set the time to live of a key in seconds
pexpire|-3|write fast|1 1 1|generic|2.6.0|O(1)|RW update
    Set the time to live of a key in milliseconds
expireat|-3|write fast|1 1 1|generic|1.2.0|O(1)|RW update
    Set when a key expires, in seconds of Unix time
pexpireat|-3|write fast|1 1 1|generic|2.6.0|O(1)|RW update
    Set when a key expires, in milliseconds of Unix time
ttl|2|readonly fast|1 1 1|generic|1.0.0|O(1)|RO access
    Return the time to live of a key in seconds
pttl|2|readonly fast|1 1 1|generic|2.6.0|O(1)|RO access
    Return the time to live of a key in milliseconds
expiretime|2|readonly fast|1 1 1|generic|7.0.0|O(1)|RO access
    Return when a key expires, in seconds of Unix time
pexpiretime|2|readonly fast|1 1 1|generic|7.0.0|O(1)|RO access
    Return when a key expires, in milliseconds of Unix time
persist|2|write fast|1 1 1|generic|2.2.0|O(1)|RW update
    Remove the time to live of a key
type|2|readonly fast|1 1 1|generic|1.0.0|O(1)|RO
    Return the type of the value at a key
keys|2|readonly|0 0 0|generic|1.0.0|O(N)|
    Return all keys that match a pattern
scan|-2|readonly|0 0 0|generic|2.8.0|O(1)|
    Walk through the keys, a page at a time
randomkey|1|readonly|0 0 0|generic|1.0.0|O(1)|
    Return some key
rename|3|write|1 2 1|generic|1.0.0|O(1)|RW access delete
    Rename a key, replacing the target
renamenx|3|write fast|1 2 1|generic|1.0.0|O(1)|RW access delete
    Rename a key if the target does not exist
copy|-3|write denyoom|1 2 1|generic|6.2.0|O(N)|RO access
    Copy a key
sort|-2|write denyoom movablekeys|1 1 1|generic|1.0.0|O(N+M*log(M))|RO access
    Return or store the elements of a list, set or sorted set in an order, or what they lead to
sort_ro|-2|readonly movablekeys|1 1 1|generic|7.0.0|O(N+M*log(M))|RO access
    Return the elements of a list, set or sorted set in an order, or what they lead to
touch|-2|readonly fast|1 -1 1|generic|3.2.1|O(N)|RO
    Count how many of the keys exist
dbsize|1|readonly fast|0 0 0|server|1.0.0|O(1)|
    Return the number of keys
flushdb|-1|write|0 0 0|server|1.0.0|O(N)|
    Delete all keys
flushall|-1|write|0 0 0|server|1.0.0|O(N)|
    Delete all keys
object/encoding|3|readonly|2 2 1|generic|2.2.3|O(1)|RO
    Return the encoding of a value
object/freq|3|readonly|2 2 1|generic|4.0.0|O(1)|RO
    Return how often a key is used
object/idletime|3|readonly|2 2 1|generic|2.2.3|O(1)|RO
    Return how long a key has not been used
object/refcount|3|readonly|2 2 1|generic|2.2.3|O(1)|RO
    Return the number of references to a value
object/help|2|loading stale|0 0 0|generic|6.2.0|O(1)|
    List the subcommands
object|-2||0 0 0|generic|2.2.3|-|
    Look at how a value is kept
memory/usage|-3|readonly|2 2 1|server|4.0.0|O(N)|RO
    Estimate the memory of a key in bytes
memory/help|2|loading stale|0 0 0|server|4.0.0|O(1)|
    List the subcommands
memory|-2||0 0 0|server|4.0.0|-|
    Look at the use of memory
delex|-2|write fast|1 1 1|string|8.4.0|O(1)|RW delete variable_flags
    Delete a key, with an optional condition on its string
watch|-2|noscript loading stale fast allow_busy|1 -1 1|transactions|2.2.0|O(1)|RO
    Let the next EXEC depend on keys being unchanged
eval|-3|noscript stale skip_monitor no_mandatory_keys movablekeys|\
0 0 0|scripting|2.6.0|O(1)|RW access update
    Execute a script of redis-py's Lock; any other is refused
evalsha|-3|noscript stale skip_monitor no_mandatory_keys movablekeys|\
0 0 0|scripting|2.6.0|O(1)|RW access update
    Execute a script of redis-py's Lock by its digest
kv/get|-3|readonly fast|2 2 1|kv|0.2.0|O(1)|RO access
    Return a value with its revisions, as it is or as it was at a revision
kv/range|-4|readonly|0 0 0|kv|0.2.0|O(N)|
    Return keys in order, with values and revisions, a page at a time
kv/history|2|readonly fast|0 0 0|kv|0.2.0|O(1)|
    Return which revisions can be read and watched, and what they take
kv/revisions|-3|readonly fast|2 -1 1|kv|0.2.0|O(N)|RO
    Return the modify revisions of keys
kv/txn|-5|write denyoom|0 0 0|kv|0.2.0|O(N)|
    Execute the one or the other list of commands, as compares decide
kv/exec|-4|write denyoom|0 0 0|kv|0.2.0|O(N)|
    Execute a whole MULTI in one request
kv/lease|-3|write fast|0 0 0|kv|0.2.0|O(N)|
    Grant, renew, revoke and describe leases, and bind keys to them
kv/set|-6|write denyoom fast|2 2 1|kv|0.2.0|O(1)|RW access update variable_flags
    Set a key to a string and bind it to a lease
kv/once|-6|write denyoom|0 0 0|sessions|0.2.0|O(N)|
    Execute a write once, however many copies of it arrive
kv/outcome|4|write fast|0 0 0|sessions|0.2.0|O(1)|
    Say what became of a write, and fence it if it was not executed
kv/session|-3|write fast|0 0 0|sessions|0.2.0|O(1)|
    Open, keep alive, close or show sessions
kv|-2||0 0 0|kv|0.2.0|-|
    What the data model has beyond Redis
"""

# Commands which the server answers itself.
OWN_COMMANDS = """
ping|-1|fast|0 0 0|connection|1.0.0|O(1)|
    Answer PONG, or the given text
echo|2|loading stale fast|0 0 0|connection|1.0.0|O(1)|
    Answer the given text
quit|-1|noscript loading stale fast no_auth allow_busy|0 0 0|connection|1.0.0|O(1)|
    Close the connection after all replies
reset|1|noscript loading stale fast no_auth allow_busy|0 0 0|connection|6.2.0|O(1)|
    Put the connection back to its first state
select|2|loading stale fast|0 0 0|connection|1.0.0|O(1)|
    Choose a database; there is only number 0
multi|1|noscript loading stale fast allow_busy|0 0 0|transactions|1.2.0|O(1)|
    Queue the commands that follow, until EXEC
exec|1|noscript loading stale skip_slowlog|0 0 0|transactions|1.2.0|O(N)|
    Execute the queued commands as one
discard|1|noscript loading stale fast allow_busy|0 0 0|transactions|2.0.0|O(N)|
    Forget the queued commands
unwatch|1|noscript loading stale fast allow_busy|0 0 0|transactions|2.2.0|O(N)|
    Forget all watched keys
kv/watch|-4|noscript loading stale|0 0 0|kv|0.2.0|O(1)|
    Be told the changes of a key, or of those with a prefix, from a revision on
kv/unwatch|-2|noscript loading stale|0 0 0|kv|0.2.0|O(N)|
    End watches of this connection, or all of them
kv/progress|-2|noscript loading stale|0 0 0|kv|0.2.0|O(N)|
    Be told up to which revision watches of this connection have been told everything
kv/help|2|loading stale|0 0 0|kv|0.2.0|O(1)|
    List the subcommands
script/load|3|noscript stale|0 0 0|scripting|2.6.0|O(N)|
    Return the digest of a script of redis-py's Lock; any other is refused
script/exists|-3|noscript|0 0 0|scripting|2.6.0|O(N)|
    Tell which scripts are known
script/flush|-2|noscript|0 0 0|scripting|2.6.0|O(1)|
    Accepted for compatibility: scripts that are known stay so
script/help|2|loading stale|0 0 0|scripting|5.0.0|O(1)|
    List the subcommands
script|-2||0 0 0|scripting|2.6.0|-|
    Look at the scripts that are known
time|1|loading stale fast|0 0 0|server|2.6.0|O(1)|
    Return the wall clock of this node
hello|-1|noscript loading stale fast no_auth allow_busy|0 0 0|connection|6.0.0|O(1)|
    Choose the protocol version, log in and name the connection
auth|-2|noscript loading stale fast no_auth allow_busy|0 0 0|connection|1.0.0|O(N)|
    Log in
client/id|2|noscript loading stale|0 0 0|connection|5.0.0|O(1)|
    Return the number of this connection
client/getname|2|noscript loading stale|0 0 0|connection|2.6.9|O(1)|
    Return the name of this connection
client/setname|3|noscript loading stale|0 0 0|connection|2.6.9|O(1)|
    Name this connection
client/list|-2|admin noscript loading stale|0 0 0|connection|2.4.0|O(N)|
    List the connections of this node
client/setinfo|4|noscript loading stale|0 0 0|connection|7.2.0|O(1)|
    Name the library behind this connection
client/info|2|noscript loading stale|0 0 0|connection|6.2.0|O(1)|
    Describe this connection
client/kill|-3|admin noscript loading stale|0 0 0|connection|2.4.0|O(N)|
    Close connections of this node
client/unblock|-3|admin noscript loading stale|0 0 0|connection|5.0.0|O(log N)|
    End the wait of a client for a key
client/no-evict|3|admin noscript loading stale|0 0 0|connection|7.0.0|O(1)|
    Accepted for compatibility: connections are never evicted
client/no-touch|3|noscript loading stale|0 0 0|connection|7.2.0|O(1)|
    Accepted for compatibility: reads leave no trace at a key
client/help|2|loading stale|0 0 0|connection|5.0.0|O(1)|
    List the subcommands
client|-2||0 0 0|connection|2.4.0|-|
    Look at and manage connections
command/count|2|loading stale|0 0 0|server|2.8.13|O(1)|
    Return the number of commands
command/info|-2|loading stale|0 0 0|server|2.8.13|O(N)|
    Describe commands
command/docs|-2|loading stale|0 0 0|server|7.0.0|O(N)|
    Document commands
command/getkeys|-4|loading stale|0 0 0|server|2.8.13|O(N)|
    Return the keys of a command
command/list|-2|loading stale|0 0 0|server|7.0.0|O(N)|
    List the names of all commands
command/help|2|loading stale|0 0 0|server|5.0.0|O(1)|
    List the subcommands
command|-1|loading stale|0 0 0|server|2.8.13|O(N)|
    Describe all commands
config/get|-3|admin noscript loading stale|0 0 0|server|2.0.0|O(N)|
    Return settings that match patterns
config/set|-4|admin noscript loading stale|0 0 0|server|2.0.0|O(N)|
    Change settings that may change at run time
config/resetstat|2|admin noscript loading stale|0 0 0|server|2.0.0|O(1)|
    Set the counters of INFO to zero
config/help|2|loading stale|0 0 0|server|5.0.0|O(1)|
    List the subcommands
config|-2||0 0 0|server|2.0.0|-|
    Look at and change settings
info|-1|loading stale|0 0 0|server|1.0.0|O(1)|
    Return facts and counters of this node
role|1|noscript loading stale fast|0 0 0|server|2.8.12|O(1)|
    Return the role of this node in the terms of replication
cluster/slots|2|stale|0 0 0|cluster|3.0.0|O(N)|
    Map the slots to nodes: the leader first
cluster/shards|2|stale|0 0 0|cluster|7.0.0|O(N)|
    Describe the one shard and its nodes
cluster/nodes|2|stale|0 0 0|cluster|3.0.0|O(N)|
    List the nodes as text
cluster/info|2|stale|0 0 0|cluster|3.0.0|O(1)|
    Return the state of the cluster
cluster/myid|2|stale|0 0 0|cluster|3.0.0|O(1)|
    Return the id of this node
cluster/keyslot|3|stale|0 0 0|cluster|3.0.0|O(N)|
    Return the slot of a key
cluster/countkeysinslot|3|stale|0 0 0|cluster|3.0.0|O(1)|
    Count the keys of a slot on this node
cluster/help|2|loading stale|0 0 0|cluster|5.0.0|O(1)|
    List the subcommands
cluster|-2||0 0 0|cluster|3.0.0|-|
    Look at the cluster in the terms of Redis Cluster
readonly|1|loading stale fast|0 0 0|cluster|3.0.0|O(1)|
    Allow stale reads on a node that does not lead
readwrite|1|loading stale fast|0 0 0|cluster|3.0.0|O(1)|
    Undo READONLY
asking|1|fast|0 0 0|cluster|3.0.0|O(1)|
    Accepted for compatibility: slots never move
subscribe|-2|pubsub noscript loading stale|0 0 0|pubsub|2.0.0|O(N)|
    Listen to channels
unsubscribe|-1|pubsub noscript loading stale|0 0 0|pubsub|2.0.0|O(N)|
    Listen to channels no longer, or to none
psubscribe|-2|pubsub noscript loading stale|0 0 0|pubsub|2.0.0|O(N)|
    Listen to channels that match patterns
punsubscribe|-1|pubsub noscript loading stale|0 0 0|pubsub|2.0.0|O(N)|
    Listen to patterns no longer, or to none
publish|3|pubsub loading stale fast|0 0 0|pubsub|2.0.0|O(N+M)|
    Send a message to whoever listens to a channel, on every node
ssubscribe|-2|pubsub noscript loading stale|1 -1 1|pubsub|7.0.0|O(N)|not_key
    Listen to shard channels, which are a name space of their own
sunsubscribe|-1|pubsub noscript loading stale|1 -1 1|pubsub|7.0.0|O(N)|not_key
    Listen to shard channels no longer, or to none
spublish|3|pubsub loading stale fast|1 1 1|pubsub|7.0.0|O(N)|not_key
    Send a message to whoever listens to a shard channel, on every node
pubsub/channels|-2|pubsub loading stale|0 0 0|pubsub|2.8.0|O(N)|
    List the channels with subscribers on this node
pubsub/numsub|-2|pubsub loading stale|0 0 0|pubsub|2.8.0|O(N)|
    Count the subscribers of channels on this node
pubsub/numpat|2|pubsub loading stale|0 0 0|pubsub|2.8.0|O(1)|
    Count the patterns with subscribers on this node
pubsub/shardchannels|-2|pubsub loading stale|0 0 0|pubsub|7.0.0|O(N)|
    List the shard channels with subscribers on this node
pubsub/shardnumsub|-2|pubsub loading stale|0 0 0|pubsub|7.0.0|O(N)|
    Count the subscribers of shard channels on this node
pubsub/help|2|loading stale|0 0 0|pubsub|6.2.0|O(1)|
    List the subcommands
pubsub|-2||0 0 0|pubsub|2.8.0|-|
    Look at the subscriptions of this node
raft|-2||0 0 0|raft|0.1.0|-|
    Look at and manage the replicated log and its members
raft/status|2|loading stale|0 0 0|raft|0.1.0|O(N)|
    Return role, term, indexes and members of this node
raft/members|2|loading stale|0 0 0|raft|0.1.0|O(N)|
    List the members of the cluster
raft/routing|-2|loading stale fast|0 0 0|raft|0.1.0|O(1)|
    Return or choose what this connection does on a follower: redirect or proxy
raft/reads|-2|loading stale fast|0 0 0|raft|0.1.0|O(1)|
    Return or choose the read level of this connection
raft/staleness|2|loading stale fast|0 0 0|raft|0.1.0|O(1)|
    Return how old this node's store is at most, in milliseconds
raft/token|2|loading stale fast|0 0 0|raft|0.1.0|O(1)|
    Return a token of what this connection has seen
raft/after|3|loading stale|0 0 0|raft|0.1.0|O(1)|
    Wait until this node has applied what a token names, and read nothing older here
raft/snapshot|2|admin loading stale|0 0 0|raft|0.1.0|O(N)|
    Write a snapshot of this node and return its index
raft/member|-4|admin loading stale|0 0 0|raft|0.1.0|O(N)|
    Add, promote, demote, remove or move a member
raft/transfer|-2|admin loading stale|0 0 0|raft|0.1.0|O(1)|
    Hand leadership over to another voter
raft/help|2|loading stale|0 0 0|raft|0.1.0|O(1)|
    List the subcommands
sentinel|-2|loading stale|0 0 0|sentinel|2.8.4|-|
    Answer as a Sentinel that watches this cluster
sentinel/get-master-addr-by-name|3|loading stale|0 0 0|sentinel|2.8.4|O(1)|
    Return host and port of the leader
sentinel/masters|2|loading stale|0 0 0|sentinel|2.8.4|O(1)|
    Describe the one master: the leader
sentinel/master|3|loading stale|0 0 0|sentinel|2.8.4|O(1)|
    Describe the leader
sentinel/replicas|3|loading stale|0 0 0|sentinel|5.0.0|O(N)|
    Describe the other members
sentinel/slaves|3|loading stale|0 0 0|sentinel|2.8.0|O(N)|
    Describe the other members
sentinel/sentinels|3|loading stale|0 0 0|sentinel|2.8.4|O(N)|
    Describe the other members as Sentinels
sentinel/ckquorum|3|loading stale|0 0 0|sentinel|2.8.4|O(N)|
    Tell whether a leader is known
sentinel/help|2|loading stale|0 0 0|sentinel|6.2.0|O(1)|
    List the subcommands
"""
