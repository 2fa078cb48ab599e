"""Who makes the cards and floating addresses that a pair needs: one module for each kind of platform."""
