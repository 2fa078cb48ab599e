"""One third-party client, or one corner of the kernel, each."""
