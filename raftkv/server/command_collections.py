"""The facts of the commands on hashes, lists, sets, sorted sets and bits.

In the form that `command_data` describes; `command_table` reads both. The flag
`movablekeys` says that the number of keys is an argument, behind the fixed keys.
"""

from __future__ import annotations

COLLECTION_COMMANDS = """
hset|-4|write denyoom fast|1 1 1|hash|2.0.0|O(1)|RW update
    Set fields of a hash
hsetnx|4|write denyoom fast|1 1 1|hash|2.0.0|O(1)|RW insert
    Set a field of a hash if it does not exist
hmset|-4|write denyoom fast|1 1 1|hash|2.0.0|O(N)|RW update
    Set fields of a hash (old name of HSET)
hget|3|readonly fast|1 1 1|hash|2.0.0|O(1)|RO access
    Return the value of a field
hmget|-3|readonly fast|1 1 1|hash|2.0.0|O(N)|RO access
    Return the values of several fields
hgetall|2|readonly|1 1 1|hash|2.0.0|O(N)|RO access
    Return all fields and values of a hash
hdel|-3|write fast|1 1 1|hash|2.0.0|O(N)|RW delete
    Delete fields of a hash
hexists|3|readonly fast|1 1 1|hash|2.0.0|O(1)|RO
    Tell whether a hash has a field
hlen|2|readonly fast|1 1 1|hash|2.0.0|O(1)|RO
    Return the number of fields
hstrlen|3|readonly fast|1 1 1|hash|3.2.0|O(1)|RO
    Return the length of the value of a field in bytes
hkeys|2|readonly|1 1 1|hash|2.0.0|O(N)|RO access
    Return all fields of a hash
hvals|2|readonly|1 1 1|hash|2.0.0|O(N)|RO access
    Return all values of a hash
hincrby|4|write denyoom fast|1 1 1|hash|2.0.0|O(1)|RW access update
    Add to the integer in a field
hincrbyfloat|4|write denyoom fast|1 1 1|hash|2.6.0|O(1)|RW access update
    Add to the decimal number in a field
hrandfield|-2|readonly|1 1 1|hash|6.2.0|O(N)|RO access
    Return some fields of a hash
hscan|-3|readonly|1 1 1|hash|2.8.0|O(1)|RO access
    Walk through the fields of a hash, a page at a time
lpush|-3|write denyoom fast|1 1 1|list|1.0.0|O(1)|RW insert
    Add elements in front of a list
rpush|-3|write denyoom fast|1 1 1|list|1.0.0|O(1)|RW insert
    Add elements behind a list
lpushx|-3|write denyoom fast|1 1 1|list|2.2.0|O(1)|RW insert
    Add elements in front of a list that exists
rpushx|-3|write denyoom fast|1 1 1|list|2.2.0|O(1)|RW insert
    Add elements behind a list that exists
lpop|-2|write fast|1 1 1|list|1.0.0|O(N)|RW access delete
    Remove and return the first elements of a list
rpop|-2|write fast|1 1 1|list|1.0.0|O(N)|RW access delete
    Remove and return the last elements of a list
lmpop|-4|write movablekeys|0 0 0|list|7.0.0|O(N+M)|RW access delete
    Remove and return elements of the first list that has any
blpop|-3|write noscript blocking|1 -2 1|list|2.0.0|O(N)|RW access delete
    Remove and return the first element of the first list that has any, or wait for one
brpop|-3|write noscript blocking|1 -2 1|list|2.0.0|O(N)|RW access delete
    Remove and return the last element of the first list that has any, or wait for one
blmpop|-5|write blocking movablekeys|0 0 0|list|7.0.0|O(N+M)|RW access delete
    Remove and return elements of the first list that has any, or wait for some
llen|2|readonly fast|1 1 1|list|1.0.0|O(1)|RO
    Return the length of a list
lrange|4|readonly|1 1 1|list|1.0.0|O(S+N)|RO access
    Return a part of a list
lindex|3|readonly|1 1 1|list|1.0.0|O(N)|RO access
    Return an element by its position
lset|4|write denyoom|1 1 1|list|1.0.0|O(N)|RW update
    Replace an element by its position
linsert|5|write denyoom|1 1 1|list|2.2.0|O(N)|RW insert
    Insert an element beside another
lrem|4|write|1 1 1|list|1.0.0|O(N+M)|RW delete
    Remove elements that are equal to a value
ltrim|4|write|1 1 1|list|1.0.0|O(N)|RW delete
    Keep only a part of a list
lmove|5|write denyoom|1 2 1|list|6.2.0|O(1)|RW access delete
    Move an element from one end of a list to one end of another
rpoplpush|3|write denyoom|1 2 1|list|1.2.0|O(1)|RW access delete
    Move the last element of a list in front of another (old form of LMOVE)
blmove|6|write denyoom noscript blocking|1 2 1|list|6.2.0|O(1)|RW access delete
    Move an element from one end of a list to one end of another, or wait for one
brpoplpush|4|write denyoom noscript blocking|1 2 1|list|2.2.0|O(1)|RW access delete
    Move the last element of a list in front of another, or wait for one (old form of BLMOVE)
lpos|-3|readonly|1 1 1|list|6.0.6|O(N)|RO access
    Return the positions of elements that are equal to a value
sadd|-3|write denyoom fast|1 1 1|set|1.0.0|O(1)|RW insert
    Add members to a set
srem|-3|write fast|1 1 1|set|1.0.0|O(N)|RW delete
    Remove members from a set
sismember|3|readonly fast|1 1 1|set|1.0.0|O(1)|RO
    Tell whether a set has a member
smismember|-3|readonly fast|1 1 1|set|6.2.0|O(N)|RO access
    Tell which of several members a set has
smembers|2|readonly|1 1 1|set|1.0.0|O(N)|RO access
    Return all members of a set
scard|2|readonly fast|1 1 1|set|1.0.0|O(1)|RO
    Return the number of members
spop|-2|write fast|1 1 1|set|1.0.0|O(1)|RW access delete
    Remove and return some members
srandmember|-2|readonly|1 1 1|set|1.0.0|O(1)|RO access
    Return some members
smove|4|write fast|1 2 1|set|1.0.0|O(1)|RW access delete
    Move a member from one set to another
sinter|-2|readonly|1 -1 1|set|1.0.0|O(N*M)|RO access
    Return the members that all sets have
sintercard|-3|readonly movablekeys|0 0 0|set|7.0.0|O(N*M)|RO access
    Count the members that all sets have
sinterstore|-3|write denyoom|1 -1 1|set|1.0.0|O(N*M)|RW update
    Store the members that all sets have
sunion|-2|readonly|1 -1 1|set|1.0.0|O(N)|RO access
    Return the members that any of the sets has
sunionstore|-3|write denyoom|1 -1 1|set|1.0.0|O(N)|OW update
    Store the members that any of the sets has
sdiff|-2|readonly|1 -1 1|set|1.0.0|O(N)|RO access
    Return the members that only the first set has
sdiffstore|-3|write denyoom|1 -1 1|set|1.0.0|O(N)|OW update
    Store the members that only the first set has
sscan|-3|readonly|1 1 1|set|2.8.0|O(1)|RO access
    Walk through the members of a set, a page at a time
zadd|-4|write denyoom fast|1 1 1|sorted-set|1.2.0|O(log(N))|RW update
    Add members with scores, or change their scores
zincrby|4|write denyoom fast|1 1 1|sorted-set|1.2.0|O(log(N))|RW access update
    Add to the score of a member
zrem|-3|write fast|1 1 1|sorted-set|1.2.0|O(M*log(N))|RW delete
    Remove members from a sorted set
zscore|3|readonly fast|1 1 1|sorted-set|1.2.0|O(1)|RO access
    Return the score of a member
zmscore|-3|readonly fast|1 1 1|sorted-set|6.2.0|O(N)|RO access
    Return the scores of several members
zcard|2|readonly fast|1 1 1|sorted-set|1.2.0|O(1)|RO
    Return the number of members
zcount|4|readonly fast|1 1 1|sorted-set|2.0.0|O(log(N))|RO access
    Count the members in a range of scores
zlexcount|4|readonly fast|1 1 1|sorted-set|2.8.9|O(log(N))|RO access
    Count the members in a range of names
zrank|3|readonly fast|1 1 1|sorted-set|2.0.0|O(log(N))|RO access
    Return the position of a member, lowest score first
zrevrank|3|readonly fast|1 1 1|sorted-set|2.0.0|O(log(N))|RO access
    Return the position of a member, highest score first
zrange|-4|readonly|1 1 1|sorted-set|1.2.0|O(log(N)+M)|RO access
    Return the members in a range of positions, scores or names
zrangestore|-5|write denyoom|1 2 1|sorted-set|6.2.0|O(log(N)+M)|OW update
    Store the members in a range of positions, scores or names
zrevrange|-4|readonly|1 1 1|sorted-set|1.2.0|O(log(N)+M)|RO access
    Return the members in a range of positions, highest score first
zrangebyscore|-4|readonly|1 1 1|sorted-set|1.0.5|O(log(N)+M)|RO access
    Return the members in a range of scores
zrevrangebyscore|-4|readonly|1 1 1|sorted-set|2.2.0|O(log(N)+M)|RO access
    Return the members in a range of scores, highest first
zrangebylex|-4|readonly|1 1 1|sorted-set|2.8.9|O(log(N)+M)|RO access
    Return the members in a range of names
zrevrangebylex|-4|readonly|1 1 1|sorted-set|2.8.9|O(log(N)+M)|RO access
    Return the members in a range of names, highest first
zremrangebyrank|4|write|1 1 1|sorted-set|2.0.0|O(log(N)+M)|RW delete
    Remove the members in a range of positions
zremrangebyscore|4|write|1 1 1|sorted-set|1.2.0|O(log(N)+M)|RW delete
    Remove the members in a range of scores
zremrangebylex|4|write|1 1 1|sorted-set|2.8.9|O(log(N)+M)|RW delete
    Remove the members in a range of names
zpopmin|-2|write fast|1 1 1|sorted-set|5.0.0|O(log(N)*M)|RW access delete
    Remove and return the members with the lowest scores
zpopmax|-2|write fast|1 1 1|sorted-set|5.0.0|O(log(N)*M)|RW access delete
    Remove and return the members with the highest scores
zmpop|-4|write movablekeys|0 0 0|sorted-set|7.0.0|O(K)|RW access delete
    Remove and return members of the first sorted set that has any
bzpopmin|-3|write noscript blocking fast|1 -2 1|sorted-set|5.0.0|O(log(N))|RW access delete
    Remove and return the lowest member of the first sorted set that has any, or wait for one
bzpopmax|-3|write noscript blocking fast|1 -2 1|sorted-set|5.0.0|O(log(N))|RW access delete
    Remove and return the highest member of the first sorted set that has any, or wait for one
bzmpop|-5|write blocking movablekeys|0 0 0|sorted-set|7.0.0|O(K)+O(M*log(N))|RW access delete
    Remove and return members of the first sorted set that has any, or wait for some
zrandmember|-2|readonly|1 1 1|sorted-set|6.2.0|O(N)|RO access
    Return some members
zscan|-3|readonly|1 1 1|sorted-set|2.8.0|O(1)|RO access
    Walk through the members and scores, a page at a time
zunion|-3|readonly movablekeys|0 0 0|sorted-set|6.2.0|O(N)|RO access
    Return the members that any of the sorted sets has
zunionstore|-4|write denyoom movablekeys|1 1 1|sorted-set|2.0.0|O(N)|OW update
    Store the members that any of the sorted sets has
zinter|-3|readonly movablekeys|0 0 0|sorted-set|6.2.0|O(N*K)|RO access
    Return the members that all sorted sets have
zintercard|-3|readonly movablekeys|0 0 0|sorted-set|7.0.0|O(N*K)|RO access
    Count the members that all sorted sets have
zinterstore|-4|write denyoom movablekeys|1 1 1|sorted-set|2.0.0|O(N*K)|OW update
    Store the members that all sorted sets have
zdiff|-3|readonly movablekeys|0 0 0|sorted-set|6.2.0|O(L + (N-K)log(N))|RO access
    Return the members that only the first sorted set has
zdiffstore|-4|write denyoom movablekeys|1 1 1|sorted-set|6.2.0|O(L + (N-K)log(N))|OW update
    Store the members that only the first sorted set has
getbit|3|readonly fast|1 1 1|bitmap|2.2.0|O(1)|RO access
    Return a bit of a string
setbit|4|write denyoom|1 1 1|bitmap|2.2.0|O(1)|RW access update
    Set a bit of a string and return the old one
bitcount|-2|readonly|1 1 1|bitmap|2.6.0|O(N)|RO access
    Count the bits that are set
bitpos|-3|readonly|1 1 1|bitmap|2.8.7|O(N)|RO access
    Return the position of the first bit that is set, or clear
bitop|-4|write denyoom|2 -1 1|bitmap|2.6.0|O(N)|OW update
    Store the AND, OR, XOR or NOT of strings
bitfield|-2|write denyoom|1 1 1|bitmap|3.2.0|O(1)|RW access update variable_flags
    Read, write and add to integers of any width in a string
bitfield_ro|-2|readonly fast|1 1 1|bitmap|6.0.0|O(1)|RO access
    Read integers of any width in a string
"""
