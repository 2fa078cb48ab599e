"""How many pairs a subnet needs, where they go, and the steps by which they come and go. Pure."""
