"""One bag to one shard: what its cameras need, the sinks, and the method that fills them."""
